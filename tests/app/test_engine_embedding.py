"""Texts of many requests are encoded together, and each vector is the one its text has alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from bedplate_server.engine import flat, tracing, vectors
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
    return (
        AutoModel.from_config(config, attn_implementation="sdpa" if kind != "mpnet" else None)
        .eval()
        .requires_grad_(False)
    )


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


@pytest.mark.parametrize("lengths", [[5], [16], [3, 3], [1, 15, 16, 17, 47], [40, 2, 1], [2] * 33])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_text_sees_its_own_keys_alone(lengths: list[int], dtype: torch.dtype) -> None:
    texts = [[100 * number + place for place in range(length)] for number, length in enumerate(lengths)]
    row = flat._laid_out(texts, 2, dtype)
    tokens, size = row.tokens[0].tolist(), row.tokens.shape[1]
    assert row.positions.shape == row.tokens.shape
    for text, (start, stop, begin, end, mask_at) in zip(texts, row.plan.tolist(), strict=True):
        assert tokens[start:stop] == text
        assert row.positions[0, start:stop].tolist() == list(range(2, 2 + len(text)))
        assert end - begin in (size, len(text) + -len(text) % 16)
        mask = torch.zeros(end - begin) if mask_at < 0 else row.masks[mask_at : mask_at + end - begin]
        assert set(mask.tolist()) <= {0.0, -torch.inf}
        assert [tokens[begin + place] for place in mask.isfinite().nonzero().flatten()] == text


@pytest.mark.parametrize("kind", [kind for kind, known in KINDS.items() if known])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.inference_mode()
def test_what_is_read_flat_is_one_graph_that_knows_every_text(kind: str, dtype: torch.dtype) -> None:
    """Python attends while the graph is made, and never again."""
    model = model_of(kind).to(dtype)
    first = flat.states_of(model, [[5, 6, 7]])
    known = flat._KNOWN[model]
    assert first is not None
    assert known is not None
    assert known.graph is not None
    for count in (1, 2, 30):
        texts = [[3 + token % 290 for token in prompt] for prompt in prompts(count, seed=count)]
        found = flat.states_of(model, texts)
        assert found is not None
        assert flat._Reading.current is None
        tracing.compare(found, flat._states(model, texts, flat._Flat(known.first)))


def looking(self: Any, hidden: torch.Tensor) -> torch.Tensor:
    """Code that looks at a value, of which a graph knows one branch."""
    result: torch.Tensor = self.intermediate_act_fn(self.dense(hidden))
    return result if bool(hidden.isfinite().all()) else -result


@torch.inference_mode()
def test_a_model_that_is_no_graph_is_read_flat_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transformers.models.bert.modeling_bert.BertIntermediate, "forward", looking)
    model = model_of("bert")
    found = flat.states_of(model, [[5, 6, 7], [8]])
    assert found is not None
    assert flat._KNOWN[model] == flat._Flat(0, None)
    wanted = model(input_ids=torch.tensor([[5, 6, 7]])).last_hidden_state[0]
    assert torch.allclose(found[0], wanted, atol=1e-5)


@pytest.mark.parametrize(("kind", "first"), [("bert", 0), ("roberta", 2)])
@torch.inference_mode()
def test_positions_are_told_apart_in_bfloat16(kind: str, first: int) -> None:
    model = model_of(kind).bfloat16()
    model.embeddings.position_embeddings.weight.mul_(0.02)
    known = flat._tried(model)
    assert known is not None
    assert known.first == first


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


def test_a_request_that_is_being_encoded_is_told_from_one_that_waits(
    encoder: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bedplate_server.engine.scheduler._EMBEDDING_TOKENS_PER_STEP", 200)
    scheduler = Scheduler(encoder)
    for number in range(3):
        scheduler.add(Embed(number, [list(range(5, 55))] * 20))
    seen = [(stats.running, stats.waiting) for _ in range(3) if (stats := scheduler.step().stats) is not None]
    assert seen == [(1, 2)] * 3
    while not scheduler.idle:
        stats = scheduler.step().stats
    assert stats is not None
    assert (stats.running, stats.waiting) == (0, 0)
