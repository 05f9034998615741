"""What a model is made of, read from its config.json and the headers of its safetensors files alone: no weight is read.

A shape is a small dictionary of numbers that can be kept in a lock. Standard library only, Python 3.9 or newer.
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Iterable, Mapping
from typing import Any

BYTES = {
    "F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2, "U16": 2,
    "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1, "I8": 1, "U8": 1, "BOOL": 1,
}  # fmt: skip
# Kinds that from_pretrained converts to the wished dtype; the others stay as they are stored.
FLOATING = ("F64", "F32", "F16", "BF16")
DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
# An embedding that is also the head is there twice on a CPU up to this many bytes (bedplate_server/engine/packing.py).
SHARED_BYTES = 2**28

_HEAD = re.compile(r"(^|\.)(lm_head|embed_out)\.weight$")
_EMBEDDING = re.compile(r"(^|[._])(embed\w*|embeddings?|wte|wpe)\.(\w+\.)*weight$|(^|\.)word_embeddings\.weight$")
_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks)\.(\d+)\.")
_KEYS_VALUES = re.compile(r"(?:^|\.)layers\.(\d+)\.\w*(?:self_)?attn\w*\.(k_proj|v_proj)\.weight$")
_OTHER_TOWER = re.compile(r"(^|\.)(vision\w*|visual|audio\w*)\.")
_NOT_LOADED = re.compile(r"\.(rotary_emb\.inv_freq|attn\.(bias|masked_bias))$|(^|\.)position_ids$")


def header_of(data: bytes) -> dict[str, dict[str, Any]]:
    """The tensors of a safetensors file that starts with `data`: name -> {dtype, shape}. Raises ValueError for another file."""
    wanted = header_length(data)
    if len(data) < wanted:
        raise ValueError(f"{len(data)} bytes of a header of {wanted}")
    header = json.loads(data[8:wanted])
    if not isinstance(header, dict):
        raise ValueError("no safetensors header")
    return {name: entry for name, entry in header.items() if name != "__metadata__"}


def header_length(data: bytes) -> int:
    """Bytes to read of a safetensors file to have its whole header, from its first eight."""
    if len(data) < 8:
        raise ValueError("shorter than a safetensors header")
    (length,) = struct.unpack("<Q", data[:8])
    if length > 100_000_000:
        raise ValueError("no safetensors header")
    return int(8 + length)


def shape_of(config: Mapping[str, Any], tensors: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """A model's shape: what its memory is reckoned from, see model_memory.

    elements: how many numbers its tensors hold, by what becomes of them. kv_elements: numbers that one token leaves in the
    engine's memory of keys and values, over all layers; None where that cannot be told. context: tokens it was made for.
    """
    text = text_config(config)
    loaded = {name: tensor for name, tensor in tensors.items() if _is_loaded(name, text)}
    head = [name for name in loaded if _HEAD.search(name)]
    embedding = [name for name in loaded if _is_embedding(name, loaded[name])]
    # Shared even if an old file holds it a second time; the head alone is not loaded for vectors.
    tied = bool(config.get("tie_word_embeddings", text.get("tie_word_embeddings", not head)))
    elements = {"linear": 0, "linear_rows": 0, "embedding": 0, "head": 0, "experts": 0, "other": 0}
    fixed = 0
    for name, tensor in loaded.items():
        count = math.prod(tensor["shape"])
        if name in head and tied:
            continue
        if tensor["dtype"] not in FLOATING:
            fixed += count * BYTES.get(tensor["dtype"], 1)
        elif name in head:
            elements["head"] += count
        elif name in embedding:
            elements["embedding"] += count
        elif ".experts." in name:
            elements["experts"] += count
        elif len(tensor["shape"]) == 2 and name.endswith(".weight"):
            elements["linear"] += count
            elements["linear_rows"] += tensor["shape"][0]
        else:
            elements["other"] += count
    shared = max((math.prod(loaded[name]["shape"]) for name in embedding), default=0) if tied else 0
    return {
        "architectures": list(config.get("architectures") or []),
        "model_type": config.get("model_type"),
        "context": _context(text),
        "layers": _layers(text),
        "window": text.get("sliding_window") if text.get("use_sliding_window", True) else None,
        "kv_elements": _kv_elements(text, loaded),
        "dtype": _dtype(config, text, loaded),
        "elements": elements,
        "shared_head": shared,
        "fixed_bytes": fixed,
        "quantized": (config.get("quantization_config") or {}).get("quant_method"),
    }


def text_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part of a config that describes the language model."""
    inner = config.get("text_config")
    return {**config, **inner} if isinstance(inner, Mapping) else config


def answers(shape: Mapping[str, Any], task: str) -> bool:
    """Whether the service loads it to write answers, by its task and architecture (as bedplate_server/checkpoint.py settles)."""
    causal = any(str(name).endswith("ForCausalLM") for name in shape["architectures"])
    return causal and task in ("auto", "chat", "completion", "both")


def parameters(shape: Mapping[str, Any]) -> int:
    """How many numbers the loaded model holds, each once."""
    elements = shape["elements"]
    counts = (elements[kind] for kind in ("linear", "embedding", "head", "experts", "other"))
    return int(sum(counts) + shape["fixed_bytes"])


def _is_loaded(name: str, text: Mapping[str, Any]) -> bool:
    """Not what files carry besides: layers for multi-token prediction, tables that are computed."""
    layer = _LAYER.search(name)
    beyond = layer is not None and not _OTHER_TOWER.search(name) and int(layer[1]) >= (_layers(text) or 1 << 30)
    return not beyond and not name.startswith("mtp.") and not _NOT_LOADED.search(name)


def _is_embedding(name: str, tensor: Mapping[str, Any]) -> bool:
    return len(tensor["shape"]) == 2 and _EMBEDDING.search(name) is not None and not _HEAD.search(name)


def _layers(text: Mapping[str, Any]) -> int | None:
    return _number(text, "num_hidden_layers", "n_layer", "num_layers", "n_layers")


def _kv_elements(text: Mapping[str, Any], tensors: Mapping[str, Mapping[str, Any]]) -> int | None:
    """Numbers that a token's keys and values take in all layers; None where neither headers nor config tell.

    The engine keeps every position of every layer, those of sliding windows too, and latent attention's keys and values as
    attention sees them.
    """
    layers, heads = _layers(text), _number(text, "num_attention_heads", "n_head", "num_heads", "n_heads")
    if not layers or not heads:
        return None
    if text.get("kv_lora_rank"):
        sizes = [_number(text, name) or 0 for name in ("qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim")]
        return layers * heads * sum(sizes)
    found: dict[int, dict[str, int]] = {}
    for name, tensor in tensors.items():
        one = _KEYS_VALUES.search(name)
        if one and not _OTHER_TOWER.search(name) and tensor["dtype"] in (*FLOATING, "F8_E4M3"):
            found.setdefault(int(one[1]), {})[one[2]] = int(tensor["shape"][0])
    if len(found) == layers:
        return sum(sizes.get("k_proj", 0) + sizes.get("v_proj", sizes.get("k_proj", 0)) for sizes in found.values())
    groups = _number(text, "num_key_value_heads", "num_kv_heads", "n_head_kv") or (
        1 if text.get("multi_query") else heads
    )
    hidden = _number(text, "hidden_size", "n_embd", "d_model", "dim")
    size = _number(text, "head_dim") or (hidden // heads if hidden else None)
    return None if size is None else layers * groups * 2 * size


def _context(text: Mapping[str, Any]) -> int | None:
    """As long as the model was made for, or as texts read in parts are exact (bedplate_server's longest_exact)."""
    found = [_number(text, "max_position_embeddings", "n_positions", "max_sequence_length", "seq_length")]
    rope = text.get("rope_parameters") or text.get("rope_scaling") or {}
    if rope.get("rope_type", rope.get("type")) in ("longrope", "su"):
        found.append(_number({**text, **rope}, "original_max_position_embeddings"))
    if str(text.get("model_type")).startswith("llama4") and text.get("attn_temperature_tuning", True):
        found.append(int(text.get("floor_scale") or 8192) - 1)
    if text.get("model_type") == "doge":
        found.append(int(text.get("keep_window_size") or 2048))
    return min((one for one in found if one), default=None)


def _number(config: Mapping[str, Any], *names: str) -> int | None:
    return next(
        (int(config[name]) for name in names if isinstance(config.get(name), (int, float)) and config[name]), None
    )


def _dtype(config: Mapping[str, Any], text: Mapping[str, Any], tensors: Mapping[str, Mapping[str, Any]]) -> str:
    """What "auto" means on a GPU: what the config says, else what the first floating tensor has."""
    said = next((source[key] for source in (config, text) for key in ("dtype", "torch_dtype") if source.get(key)), None)
    if said:
        return str(said).replace("torch.", "")
    kinds: Iterable[str] = (tensor["dtype"] for tensor in tensors.values())
    return next((DTYPES[kind] for kind in kinds if kind in DTYPES), "float32")
