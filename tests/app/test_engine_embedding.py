"""Texts of many requests are encoded together, and each vector is the one its text has alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from bedplate_server.engine import flat, vectors
from bedplate_server.engine.runner import Runner
from bedplate_server.engine.scheduler import Scheduler
from bedplate_server.protocol import Embed
from transformers import AutoConfig, AutoModel

from tests.app.test_engine_batching import load, prompts

SIZES: dict[str, Any] = {
    "vocab_size": 300,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 200,
}
# By model type: whether its texts can be read one behind another.
KINDS = {
    "bert": True,
    "roberta": True,
    "xlm-roberta": True,
    "electra": True,
    "distilbert": True,
    "mpnet": False,  # an attention of its own
    "modernbert": False,  # looks no further than a window
}


def model_of(kind: str) -> Any:
    torch.manual_seed(1)
    config = AutoConfig.for_model(kind, **SIZES, initializer_range=0.3, pad_token_id=1)
    return AutoModel.from_config(config, attn_implementation="sdpa" if kind != "mpnet" else None).eval()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pooling", ["mean", "last"])
@torch.inference_mode()
def test_vectors_of_a_batch_are_those_of_each_text_alone(kind: str, pooling: str) -> None:
    model, recipe = model_of(kind), vectors.Recipe(pooling, normalize=False, scores=False, cached=False)
    texts = [[3 + token % 290 for token in prompt] for prompt in prompts(9, seed=11)]
    texts += [texts[0][:1], texts[1]]
    found = vectors.of(model, texts, None, recipe)
    assert (flat.states_of(model, texts) is not None) is KINDS[kind]
    for row, text in zip(found, texts, strict=True):
        states = model(input_ids=torch.tensor([text]), attention_mask=torch.ones(1, len(text))).last_hidden_state[0]
        assert torch.allclose(row, states.mean(dim=0) if pooling == "mean" else states[-1], atol=1e-4)


@pytest.mark.parametrize("lengths", [[5], [16], [3, 3], [1, 15, 16, 17, 47], [40, 2, 1]])
@pytest.mark.parametrize("spare", [0, 3, 20])
def test_a_text_sees_its_own_keys_alone(lengths: list[int], spare: int) -> None:
    size = sum(lengths) + spare
    start = 0
    for length, (place, shown, bias) in zip(lengths, flat._laid_out(lengths, size, torch.bfloat16), strict=True):
        assert place == slice(start, start + length)
        keys = range(size)[shown]
        assert len(keys) in (size, length + -length % 16)
        seen = torch.zeros(length, len(keys)) if bias is None else bias
        allowed = [[keys[column] for column in row.isfinite().nonzero().flatten().tolist()] for row in seen]
        assert allowed == [list(range(start, start + length))] * length
        start += length


@pytest.mark.parametrize(("kind", "first"), [("bert", 0), ("roberta", 2)])
@torch.inference_mode()
def test_positions_are_told_apart_in_bfloat16(kind: str, first: int) -> None:
    model = model_of(kind).bfloat16()
    model.embeddings.position_embeddings.weight.mul_(0.02)
    assert flat._tried(model) == first


@pytest.fixture(scope="module")
def encoder(models: dict[str, Path]) -> Runner:
    return load(models["encoder"], generates=False)


def test_many_requests_share_a_pass_and_none_waits_for_all(encoder: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixty texts of thirty requests in the order of arrival, at most 200 tokens (padding counted) at once."""
    monkeypatch.setattr("bedplate_server.engine.scheduler._EMBEDDING_TOKENS_PER_STEP", 200)
    texts = [prompt[:50] for prompt in prompts(60, seed=4)]
    scheduler, passes = Scheduler(encoder), []
    embed: Callable[..., torch.Tensor] = encoder.embed

    def watched(inputs: list[list[int]], boundaries: list[int] | None) -> torch.Tensor:
        passes.append(inputs)
        return embed(inputs, boundaries)

    monkeypatch.setattr(encoder, "embed", watched)
    for number in range(30):
        scheduler.add(Embed(number, texts[2 * number : 2 * number + 2]))
    scheduler.cancel(7)
    ended: list[int] = []
    rows: dict[int, torch.Tensor] = {}
    while not scheduler.idle:
        for job, size, data in scheduler.step().vectors:
            ended.append(job)
            rows[job] = torch.frombuffer(bytearray(data), dtype=torch.float32).view(-1, size)
    assert ended == [number for number in range(30) if number != 7]
    assert sum(map(len, passes)) == 58
    assert len(passes) < 29
    for batch in passes:
        assert len(batch) == 1 or len(batch) * max(map(len, batch)) <= 200
    for number in ended:
        for row, text in zip(rows[number], texts[2 * number : 2 * number + 2], strict=True):
            assert torch.allclose(row, embed([text], None)[0], atol=1e-5)
