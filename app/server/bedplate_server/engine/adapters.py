"""LoRA adapters beside one model: every sequence of a pass is read with its own, or with none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from transformers import PreTrainedModel

from ..errors import Refusal
from .attention import Pass

_PREFIX = "base_model.model."
# Settings of adapter_config.json that mean something else than plain LoRA, unless they have these values.
_PLAIN: dict[str, tuple[Any, ...]] = {
    "peft_type": ("LORA",),
    "bias": ("none",),
    "use_dora": (None, False),
    "fan_in_fan_out": (None, False),
    "modules_to_save": (None, []),
    "alpha_pattern": (None, {}),
    "trainable_token_indices": (None, []),
}


class AdaptedLinear(nn.Module):
    """A linear layer and, by adapter, the two thin matrices whose product changes it for that adapter's tokens."""

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self.base = base
        self.thin: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.base(inputs)
        for name, tokens in Pass.adapters:
            if name in self.thin:
                if inputs.dim() != 3:
                    found = f"adapter {name} changes a layer that is given only some of the tokens, an expert's say."
                    raise Refusal("BP662", found, "merge it into the model.")
                down, up = self.thin[name]
                change = (inputs[0, tokens] @ down @ up).to(result.dtype)
                result[0].index_add_(0, tokens, change)
        return result


def attach(model: PreTrainedModel, adapters: dict[str, str]) -> int:
    """Put every adapter (name: PEFT directory) on `model`; returns the bytes they take.

    Raises Refusal BP662 for one that is not plain LoRA for this model's linear layers.
    """
    return sum(_attach(model, name, Path(path)) for name, path in adapters.items())


def _attach(model: PreTrainedModel, name: str, path: Path) -> int:
    try:
        config = json.loads((path / "adapter_config.json").read_bytes())
        weights = load_file(path / "adapter_model.safetensors")
    except (OSError, ValueError, SafetensorError) as error:
        raise _refusal(
            path, f"cannot be read: {error}", "name the directory that PEFT's save_pretrained wrote"
        ) from None
    for setting, plain in _PLAIN.items():
        if config.get(setting) not in plain:
            raise _refusal(
                path, f"has {setting}: {config.get(setting)}", "merge it into the model, or train plain LoRA"
            )
    size = 0
    for module_name, (down, up) in _pairs(path, weights).items():
        layer = _adapted(model, module_name, path)
        base: Any = layer.base
        if (getattr(base, "in_features", 0), getattr(base, "out_features", 0)) != (down.shape[1], up.shape[0]):
            raise _refusal(path, f"does not fit {module_name}", "use the model it was trained on")
        rank = down.shape[0]
        scale = config["lora_alpha"] / (rank**0.5 if config.get("use_rslora") else rank)
        down, up = (matrix.T.contiguous().to(model.device, model.dtype) for matrix in (down, up * scale))
        layer.thin[name] = (down, up)
        size += sum(thin.nbytes for thin in layer.thin[name])
    return size


def _pairs(path: Path, weights: dict[str, torch.Tensor]) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """By module: A [rank, in] and B [out, rank], as PEFT names them."""
    halves: dict[str, dict[str, torch.Tensor]] = {}
    for key, weight in weights.items():
        module, dot, half = key.removeprefix(_PREFIX).removesuffix(".weight").rpartition(".")
        if not dot or half not in ("lora_A", "lora_B"):
            raise _refusal(path, f"changes more than linear layers ({key})", "merge it into the model")
        halves.setdefault(module, {})[half] = weight
    if not halves or any(len(pair) != 2 for pair in halves.values()):
        raise _refusal(path, "lacks matrices", "copy the adapter again")
    return {module: (pair["lora_A"], pair["lora_B"]) for module, pair in halves.items()}


def _adapted(model: PreTrainedModel, name: str, path: Path) -> AdaptedLinear:
    """The layer called `name`, wrapped if it is not yet."""
    parent_name, _, child = name.rpartition(".")
    try:
        parent = model.get_submodule(parent_name)
        layer = getattr(parent, child)
    except AttributeError:
        raise _refusal(path, f"is for a layer {name} that the model lacks", "use the model it was trained on") from None
    if layer is model.get_output_embeddings():  # type: ignore[no-untyped-call]  # it has no types
        raise _refusal(path, f"changes the output layer {name}", "merge it into the model, or train without that layer")
    if not isinstance(layer, AdaptedLinear):
        layer = AdaptedLinear(layer)
        setattr(parent, child, layer)
    return layer


def _refusal(path: Path, found: str, fix: str) -> Refusal:
    return Refusal("BP662", f"{path}: the adapter {found}.", f"{fix}.")
