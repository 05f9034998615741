"""Loading a model: which device, which weights, which tokens end an answer."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from typing import Any

import torch
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification, BitsAndBytesConfig
from transformers.utils import logging as transformers_logging

from ..errors import Refusal
from ..protocol import Load
from .attention import IMPLEMENTATION
from .cpu import computes_bfloat16


def loaded(load: Load, device: torch.device) -> Any:
    kind: Any = AutoModelForCausalLM if load.generates else AutoModel
    kind = AutoModelForSequenceClassification if load.scores else kind
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # it has no types
    chosen = load.dtype == "auto" and device.type == "cpu"
    # Other CPUs convert every bfloat16 to float32 and back; the same weights in float32 are faster there and as exact.
    kept = chosen and load.quantization is None and computes_bfloat16()
    dtype = "float32" if chosen and not kept else load.dtype
    quantized = {} if load.quantization is None else _quantized(load, device)
    try:
        model, told = kind.from_pretrained(
            load.path,
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            attn_implementation=IMPLEMENTATION if load.generates else "sdpa",
            output_loading_info=True,
            **quantized,
        )
        model = model if quantized else model.to(device)
    except torch.OutOfMemoryError as error:
        raise Refusal("BP659", f"{load.path}: {error}", "free GPU memory or serve a smaller model.") from None
    except Exception as error:
        if isinstance(error, KeyError) and IMPLEMENTATION in error.args:
            raise Refusal(
                "BP657", f"{load.path}: the engine cannot batch its attention.", "choose a plain attention model."
            ) from None
        # Whatever it is, and each library raises its own, the model does not load.
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:500]
        raise Refusal("BP658", f"{load.path}: cannot be loaded: {reason}.", "check the model's files.") from error
    _need_all(load.path, told["missing_keys"])
    if chosen and model.dtype == torch.float16:
        model = model.float()
    return model.eval().requires_grad_(False)


def _need_all(path: str, missing: Iterable[str]) -> None:
    """What a checkpoint lacks, Transformers fills with noise. Of a pooler nothing is read."""
    lacking = sorted(name for name in missing if "pooler." not in name)
    if lacking:
        found = f"{len(lacking)} tensors are not in its files, {', '.join(lacking[:3])} for one"
        fix = "take a whole checkpoint, in the form that Transformers' own class of its model_type saves."
        raise Refusal("BP658", f"{path}: cannot be loaded: {found}.", fix)


def _quantized(load: Load, device: torch.device) -> dict[str, Any]:
    """Arguments that quantize the weights as they are loaded, by bitsandbytes."""
    missing = [name for name in ("bitsandbytes", "accelerate") if importlib.util.find_spec(name) is None]
    if missing:
        raise Refusal(
            "BP663",
            f"{load.path}: quantization: {load.quantization} needs {' and '.join(missing)}, not installed here.",
            f"install {' '.join(missing)} in the service's environment, or leave quantization out.",
        )
    if load.quantization == "int8":
        config = BitsAndBytesConfig(load_in_8bit=True)  # type: ignore[no-untyped-call]  # it has no types
    else:
        compute = torch.float32 if device.type == "cpu" else torch.bfloat16
        config = BitsAndBytesConfig(  # type: ignore[no-untyped-call]  # it has no types
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=compute
        )
    return {"quantization_config": config, "device_map": {"": device}}


def device_named(wanted: str) -> torch.device:
    """`auto` is a GPU if there is one; `auto:N` the model's engine N's, one after another, and begins again at the first."""
    kind, _, number = wanted.partition(":")
    if kind == "auto":
        wanted = f"cuda:{int(number or 0) % torch.cuda.device_count()}" if torch.cuda.is_available() else "cpu"
    device = torch.device(wanted)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        found = f"{torch.cuda.device_count()} CUDA devices with torch {torch.__version__}"
        raise Refusal("BP660", f"device {wanted} asked for, found {found}.", "set device: cpu, or repair the driver.")
    return device


def longest_exact(config: Any) -> int | None:
    """How long a text a model reads in parts as in one pass, where that is less than it was made for; tokens.

    Some look at the pass: LongRoPE takes other frequencies for all of its tokens once one is beyond the trained length,
    Llama 4 counts from the pass's first token where it tempers attention, Doge's own mask is for one sequence alone.
    """
    ropes = getattr(config, "rope_parameters", None) or {}
    ropes = [ropes, *(one for one in ropes.values() if isinstance(one, dict))]
    found = [one["original_max_position_embeddings"] for one in ropes if one.get("rope_type") == "longrope"]
    if getattr(config, "attn_temperature_tuning", False):
        found.append(config.floor_scale - 1)
    if getattr(config, "keep_window_size", None):
        found.append(config.keep_window_size)
    return min(found, default=None)


def stop_tokens(model: Any) -> frozenset[int]:
    """The ids that end an answer, as model.generate takes them."""
    ids = model.generation_config.eos_token_id
    return frozenset() if ids is None else frozenset([ids] if isinstance(ids, int) else ids)
