"""Models that cannot be served are refused with the arithmetic and what would do, from config and headers alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible.module_utils.bedplate.model_memory import GIB, Device, Wish, fit
from ansible.module_utils.bedplate.model_refusals import refusals
from ansible.module_utils.bedplate.model_shape import parameters, shape_of
from ansible.module_utils.bedplate.model_words import advice, arithmetic

A10 = Device("NVIDIA A10", int(22.5 * GIB))
SMALLER, BIGGER = Device("NVIDIA L4", int(22.4 * GIB)), Device("NVIDIA L40S", 45 * GIB)
# Qwen/Qwen3-8B: 36 layers, 8 of 32 heads with keys and values, head size 128.
CONFIG: dict[str, Any] = {
    "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "dtype": "bfloat16", "hidden_size": 4096,
    "intermediate_size": 12288, "num_hidden_layers": 36, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128,
    "max_position_embeddings": 40960, "tie_word_embeddings": False, "vocab_size": 151936,
}  # fmt: skip


def headers(config: dict[str, Any], dtype: str = "BF16") -> dict[str, dict[str, Any]]:
    """The tensors of a model of this family, as its files' headers list them."""
    hidden, inner, size = config["hidden_size"], config["intermediate_size"], config["head_dim"]
    heads, groups = config["num_attention_heads"] * size, config["num_key_value_heads"] * size
    shapes = {"model.embed_tokens.weight": [config["vocab_size"], hidden], "model.norm.weight": [hidden]}
    shapes["lm_head.weight"] = [config["vocab_size"], hidden]
    layer = {
        "self_attn.q_proj": [heads, hidden], "self_attn.k_proj": [groups, hidden], "self_attn.v_proj": [groups, hidden],
        "self_attn.o_proj": [hidden, heads], "mlp.gate_proj": [inner, hidden], "mlp.up_proj": [inner, hidden],
        "mlp.down_proj": [hidden, inner], "input_layernorm": [hidden], "post_attention_layernorm": [hidden],
        "self_attn.q_norm": [size], "self_attn.k_norm": [size],
    }  # fmt: skip
    for number in range(config["num_hidden_layers"]):
        shapes.update({f"model.layers.{number}.{name}.weight": shape for name, shape in layer.items()})
    return {name: {"dtype": dtype, "shape": shape} for name, shape in shapes.items()}


def facts(**changes: Any) -> dict[str, Any]:
    config = {**CONFIG, **changes}
    more = {
        key: config.pop(key)
        for key in ("template", "tokenizer", "labels", "layer_kinds", "shared_layers")
        if key in config
    }
    plain = {"template": True, "tokenizer": True, "labels": 2, "layer_kinds": [], "shared_layers": 0}
    return {**plain, **more, "shape": shape_of(config, headers(config))}


def refused(model: dict[str, Any] | None = None, host: dict[str, Any] | None = None, **changes: Any) -> str:
    asked = {"name": "qwen", "facts": facts(**changes), **(model or {})}
    return "\n".join(refusals([asked], host or {"gpus": [A10.bytes], "memory": 64 * GIB}))


def test_the_arithmetic_of_a_known_model() -> None:
    shape = facts()["shape"]
    assert parameters(shape) == 8_190_735_360  # as its card says: 8.2 billion
    answer = fit(shape, A10, Wish(8192, 16))
    assert answer.weights == 2 * 8_190_735_360
    # 36 layers x 8 heads x (128 + 128) x 2 bytes.
    assert answer.per_token == 147_456
    assert answer.kv_wanted == 16 * 8192 * 147_456 == 18 * GIB
    assert answer.verdict == "fewer" and 1 <= answer.full_sequences < 16
    assert arithmetic(answer).startswith(
        "weights 15.3 GiB + runtime 640 MiB + keys and values 18.0 GiB (16 x 8192 tokens)"
    )
    found = advice(shape, answer, [A10, SMALLER, BIGGER])
    assert "quantization: int8" not in found, "13 GiB of keys and values would still be too much"
    assert any(one.startswith("context_length: ") for one in found) and "a bigger GPU: NVIDIA L40S" in found
    for wish in (Wish(int(one.split()[1]), 16) for one in found if one.startswith("context_length")):
        assert fit(shape, A10, wish).verdict == "fits"


def test_what_is_stored_otherwise_is_reckoned_as_it_is_loaded() -> None:
    # On a CPU in float32, unless it computes in bfloat16 and the weights are in it; for vectors without the head; a tied head once.
    shape = facts()["shape"]
    head = 151936 * 4096
    host = Device("memory", 64 * GIB, cpu=True)
    assert fit(shape, host, Wish()).weights == 4 * 8_190_735_360
    able = replace(host, bfloat16=True)
    assert fit(shape, able, Wish()).weights == 2 * 8_190_735_360
    assert fit(shape, able, Wish()).per_token * 2 == fit(shape, host, Wish()).per_token
    for other, wish in (({**shape, "dtype": "float16"}, Wish()), (shape, Wish(quantization="int8"))):
        assert fit(other, able, wish).weights == fit(other, host, wish).weights
    assert fit(shape, A10, Wish(task="embedding")).weights == 2 * (8_190_735_360 - head)
    assert parameters(facts(tie_word_embeddings=True)["shape"]) == 8_190_735_360 - head


def test_a_model_that_does_not_fit_is_refused_with_what_would() -> None:
    small = {"gpus": [15 * GIB]}
    said = refused(host=small)
    assert "BP530" in said and "weights 15.3 GiB" in said and "quantization: int8" not in said, said
    eight = refused({"context_length": 4096, "max_batch": 4}, small)
    assert "BP530" in eight and "quantization: int8" in eight, eight
    assert refused({"quantization": "int8"}, small) == ""
    assert refused(host={"gpus": [], "memory": 24 * GIB}).startswith("BP530")
    assert refused(host={"gpus": [], "memory": 24 * GIB, "cpu_bfloat16": True}) == ""
    assert refused(host={"gpus": [], "memory": 64 * GIB}) == ""
    assert refused(host={}) == "", "nobody looked at that host"


def test_two_models_on_one_gpu_are_reckoned_together() -> None:
    pair = [{"name": "one", "facts": facts()}, {"name": "two", "facts": facts(), "device": "cuda"}]
    assert refusals(pair[:1], {"gpus": [30 * GIB]}) == []
    said = refusals(pair, {"gpus": [30 * GIB]})
    assert len(said) == 2 and "other models 15.9 GiB" in said[0], said
    assert refusals([pair[0], {**pair[1], "device": "cuda:1"}], {"gpus": [30 * GIB, 30 * GIB]}) == []


@pytest.mark.parametrize(
    ("code", "said", "model", "changes"),
    [
        ("BP532", "does not chat", {"task": "chat"}, {"architectures": ["Qwen3Model"]}),
        ("BP532", "no chat template", {"task": "both"}, {"template": False}),
        ("BP532", "does not rerank", {"task": "rerank"}, {}),
        ("BP532", "2 labels", {}, {"architectures": ["BertForSequenceClassification"]}),
        ("BP532", "BloomForCausalLM", {}, {"architectures": ["BloomForCausalLM"]}),
        ("BP532", "linear_attention", {}, {"layer_kinds": ["full_attention", "linear_attention"]}),
        ("BP532", "share keys and values", {}, {"shared_layers": 10}),
        ("BP532", "model_type frobnicator", {}, {"model_type": "frobnicator"}),
        ("BP533", "tokenizer.json", {}, {"tokenizer": False}),
        ("BP534", "gptqmodel", {}, {"quantization_config": {"quant_method": "gptq"}}),
        ("BP534", "already", {"quantization": "nf4"}, {"quantization_config": {"quant_method": "fp8"}}),
    ],
)
def test_what_the_service_would_refuse_at_its_start_is_refused_now(
    code: str, said: str, model: dict[str, Any], changes: dict[str, Any]
) -> None:
    message = refused(model, **changes)
    assert message.startswith(code) and said in message and "Fix: " in message, message


def test_what_is_not_chatted_with_may_have_any_attention() -> None:
    assert refused({"task": "embedding"}, layer_kinds=["linear_attention"]) == ""
    assert refused(template=False, architectures=["BloomForCausalLM"]) == ""


@pytest.mark.parametrize("path", ["../evil", "/etc/passwd", "a/../../b", "a//b", "./a", "a\\b", "", "a\nb", "twice"])
def test_a_file_outside_the_models_folder_is_refused(path: str) -> None:
    files = [{"path": "config.json"}, {"path": "deep/er/model.safetensors"}, {"path": "twice"}, {"path": "..name"}]
    assert refused({"manifest": {"files": files}}) == ""
    message = refused({"manifest": {"files": [*files, {"path": path}]}})
    assert message.startswith("BP531") and repr(path) in message


def test_what_the_headers_do_not_tell_is_not_refused() -> None:
    shape = {**facts()["shape"], "kv_elements": None, "dtype": "float8_e4m3fn"}
    assert fit(shape, A10, Wish()).verdict == "fits"
    assert fit(shape, Device("small", 8 * GIB), Wish()).verdict == "no"


def test_layers_beyond_the_models_own_are_not_loaded() -> None:
    more = {"model.layers.36.self_attn.k_proj.weight": {"dtype": "BF16", "shape": [1024, 4096]}}
    plain, extended = headers(CONFIG), {**headers(CONFIG), **more}
    assert shape_of(CONFIG, plain) == shape_of(CONFIG, extended)
