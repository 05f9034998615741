"""Models of other families than the five of the batching tests: the same engine, the same promise, or a refusal.

The reference is Transformers' own eager attention, which knows soft caps and attention sinks.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from bedplate_server.engine.scheduler import Scheduler
from bedplate_server.errors import Refusal
from bedplate_server.protocol import Generate

from tests.app.test_engine_batching import GREEDY, generated, load, prompts, run

LENGTH = 25
TOKENS = {"vocab_size": 400, "eos_token_id": 1, "bos_token_id": 0}
COMMON: dict[str, Any] = {
    **TOKENS,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "initializer_range": 0.3,
    "pad_token_id": 0,
}
LATENT = {"q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 16}
EXPERTS = {"n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1, "moe_intermediate_size": 32}
HEADS = {"head_dim": 16, "num_experts": 4, "num_experts_per_tok": 2}
SERVED: dict[str, dict[str, Any]] = {
    # Soft caps and alternating windows; sinks; latent attention with keys wider than values; learned positions.
    "Gemma2": {**COMMON, "num_hidden_layers": 4, "sliding_window": 24, "head_dim": 16, "query_pre_attn_scalar": 16},
    "GptOss": {**COMMON, "sliding_window": 24, "head_dim": 16, "num_local_experts": 4, "num_experts_per_tok": 2},
    "DeepseekV3": {**COMMON, **LATENT, **EXPERTS, "num_key_value_heads": 4, "first_k_dense_replace": 1},
    "GPT2": {**TOKENS, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 512, "initializer_range": 0.3},
    "Mixtral": {**COMMON, "num_local_experts": 4},
    "Phi3": COMMON,
    # One that takes attention's result as contiguous; one that asks a layer for its weight's type.
    "Afmoe": {**COMMON, **HEADS, "sliding_window": 24, "num_dense_layers": 1, "moe_intermediate_size": 32},
    "HunYuanMoEV1": {**COMMON, **HEADS},
}
# Read in parts, these are what they are in one pass up to so many tokens.
LONG_ROPE = {
    **{"rope_type": "longrope", "rope_theta": 10000.0, "factor": 8.0, "original_max_position_embeddings": 64},
    **{"short_factor": [1.0] * 8, "long_factor": [4.0 + index for index in range(8)]},
}
EXACT_UP_TO: dict[str, tuple[int, dict[str, Any]]] = {
    "Phi3": (64, {**COMMON, "original_max_position_embeddings": 64, "rope_parameters": LONG_ROPE}),
    "Llama4Text": (
        79,
        {**COMMON, "head_dim": 16, "num_hidden_layers": 4, "intermediate_size_mlp": 96, "moe_layers": []}
        | {"num_local_experts": 2, "attention_chunk_size": 64, "floor_scale": 80},
    ),
    "Doge": (80, {**COMMON, "keep_window_size": 80}),
}
ATTENTION_OF_THEIR_OWN: dict[str, dict[str, Any]] = {
    "Falcon": {**TOKENS, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4},
    "DiffLlama": COMMON,
    "Bloom": {**TOKENS, "hidden_size": 64, "n_layer": 2, "n_head": 4},
}


def written(folder: Path, name: str, settings: dict[str, Any]) -> Path:
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**settings)
    model = transformers.AutoModelForCausalLM.from_config(config)
    model.generation_config.update(eos_token_id=1, pad_token_id=0)
    model.save_pretrained(folder)
    return folder


class _Eager:
    def __init__(self, path: Path) -> None:
        self.model = transformers.AutoModelForCausalLM.from_pretrained(
            path, attn_implementation="eager", dtype=torch.float32
        )


@pytest.mark.parametrize("name", SERVED)
def test_greedy_equals_generate_for_other_families(tmp_path: Path, name: str) -> None:
    path = written(tmp_path / name, name, SERVED[name])
    runner, reference, asked = load(path), _Eager(path), prompts(7, seed=40)
    arrivals = {number: [Generate(number, prompt, LENGTH, GREEDY)] for number, prompt in enumerate(asked)}
    answers, _ = run(Scheduler(runner), {**arrivals})
    for number, prompt in enumerate(asked):
        assert answers[number] == generated(reference, prompt, LENGTH), number  # type: ignore[arg-type]


@pytest.mark.parametrize("name", EXACT_UP_TO)
def test_a_text_is_as_long_as_its_parts_are_what_they_are_in_one_pass(tmp_path: Path, name: str) -> None:
    longest, settings = EXACT_UP_TO[name]
    path = written(tmp_path / name, name, settings)
    runner, reference = load(path), _Eager(path)
    assert runner.plan.context_length == longest
    asked = [list(range(5, 5 + count)) for count in (longest - LENGTH, 3, 30)]
    arrivals = {number: [Generate(number, prompt, LENGTH, GREEDY)] for number, prompt in enumerate(asked)}
    answers, _ = run(Scheduler(runner), {**arrivals})
    for number, prompt in enumerate(asked):
        assert answers[number] == generated(reference, prompt, LENGTH), number  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["Gemma2", "GptOss"])
def test_vectors_of_padded_batches_are_those_of_single_texts(tmp_path: Path, name: str) -> None:
    path = written(tmp_path / name, name, SERVED[name])
    runner, asked = load(path), prompts(5, seed=41)
    together = runner.embed(asked)
    for row, prompt in zip(together, asked, strict=True):
        states = _Eager(path).model.model(input_ids=torch.tensor([prompt])).last_hidden_state[0]
        assert torch.allclose(row, torch.nn.functional.normalize(states.mean(dim=0), dim=0), atol=1e-4)


@pytest.mark.parametrize("name", ATTENTION_OF_THEIR_OWN)
def test_models_whose_attention_cannot_be_replaced_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(Refusal, match=r"BP657 .*Fix: "):
        load(written(tmp_path / name, name, ATTENTION_OF_THEIR_OWN[name]))
