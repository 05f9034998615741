"""`./bedplate model fit`: the same answer for a directory and for a Hub, of which only headers are read."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest

from ops.model_fit import DOES_NOT, FITS, UNREADABLE, Question, device_of, facts_of_model, gpus, model_fit
from ops.paths import TUTOR
from plugins.module_utils.bedplate.model_facts import facts_of
from plugins.module_utils.bedplate.model_memory import GIB, Wish
from tests.fixtures.hub.server import Hub, Repository


def asked(reference: str, gpu: str | None = "NVIDIA A10", memory: float | None = None, **wish: Any) -> Question:
    return Question(reference, gpu, memory, Wish(**wish))


def test_a_hub_and_a_directory_give_the_same_facts(monkeypatch: pytest.MonkeyPatch) -> None:
    with Hub({"acme/tutor": Repository(TUTOR, token="hf_secret")}) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_TOKEN", "hf_secret")
        assert facts_of_model("hf://acme/tutor@main") == facts_of_model(str(TUTOR))
        assert hub.leaked == [], "the token is for the Hub alone"


def test_only_the_header_of_the_weights_is_read() -> None:
    # A header longer than what is asked for first, before weights of a terabyte that nobody has.
    tensors = {
        f"layers.{number}.norm.weight": {"dtype": "BF16", "shape": [8], "data_offsets": [0, 16]}
        for number in range(4000)
    }
    header = json.dumps({**tensors, "__metadata__": {"format": "pt"}}).encode()
    config = {"architectures": ["BertModel"], "model_type": "bert", "num_hidden_layers": 5000}
    files = {
        "config.json": json.dumps(config).encode(),
        "model.safetensors": struct.pack("<Q", len(header)) + header + b"weights",
    }
    read: list[tuple[str, int]] = []

    def ranged(path: str, start: int, length: int) -> bytes:
        data = files[path][start : start + length]
        read.append((path, start + len(data)))
        return data

    facts = facts_of([{"path": path} for path in files], ranged)
    assert facts["shape"]["elements"]["other"] == 8 * 4000
    assert max(end for path, end in read if path == "model.safetensors") == 8 + len(header)
    files["model.safetensors"] = b"<html>not found</html>"
    with pytest.raises(ValueError, match=r"model\.safetensors"):
        facts_of([{"path": path} for path in files], ranged)


def test_the_answer_shows_its_arithmetic(capsys: pytest.CaptureFixture[str]) -> None:
    assert model_fit(asked(str(TUTOR), concurrency=8), as_json=False) == FITS
    said = capsys.readouterr().out
    assert "1.4 million parameters, bfloat16" in said and "8 x 1024 tokens" in said and said.endswith("fits\n")
    assert model_fit(asked(str(TUTOR), None, 0.52), as_json=True) == DOES_NOT
    answer = json.loads(capsys.readouterr().out)
    assert answer["verdict"] == "fewer" and answer["device"]["cpu"] and answer["instead"]
    assert answer["wanted"] == answer["weights"] + answer["runtime"] + answer["kv_wanted"]
    assert model_fit(asked(str(TUTOR), None, 0.5), as_json=False) == DOES_NOT
    said = capsys.readouterr().out
    assert "BP530" in said and "Fix: take a smaller model" in said


@pytest.mark.parametrize(
    ("question", "said"),
    [
        (asked(str(TUTOR), "NVIDIA A11"), "did you mean NVIDIA A16, NVIDIA A10"),
        (asked(str(TUTOR), None), "--memory 64"),
        (asked("/nowhere"), "a model's directory, hf://"),
    ],
)
def test_a_question_that_cannot_be_answered_says_why(
    question: Question, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert model_fit(question, as_json=False) == UNREADABLE
    message = capsys.readouterr().err
    assert message.startswith("BP535") and said in message and "Fix: " in message


def test_gpus_have_what_nvidia_smi_shows_and_a_little_less_at_most() -> None:
    # Recorded totals (tests/fixtures/hosts, and NVIDIA's tables for others): never more, and within 6 %.
    shown = {"Tesla T4": 15360, "Tesla V100-SXM2-16GB": 16384, "NVIDIA A100-SXM4-80GB": 81920, "NVIDIA A10": 23028}
    shown |= {
        "NVIDIA H100 80GB HBM3": 81559,
        "NVIDIA GeForce RTX 4090": 24564,
        "NVIDIA L40S": 46068,
        "NVIDIA L4": 23034,
    }
    for name, mebibytes in shown.items():
        assert 0.93 * mebibytes * 2**20 <= device_of(name, None).bytes <= 1.002 * mebibytes * 2**20, name
    assert 9 * GIB < device_of("NVIDIA A100-SXM4-80GB MIG 1g.10gb", None).bytes < 10 * GIB
    assert len(gpus()) > 40
