"""What the sentence-transformers files of a model directory say about making one vector of a text."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from .errors import Refusal

Pooling = Literal["mean", "cls", "last", "max"]

# The names that sentence-transformers gives them in 1_Pooling/config.json.
_POOLING: dict[str, Pooling] = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_lasttoken": "last",
    "pooling_mode_max_tokens": "max",
}
_SERVED_MODULES = {"Transformer", "Pooling", "Normalize"}


@dataclass(frozen=True, slots=True)
class Sentence:
    """pooling: which hidden states become the vector; normalize: to unit length; longest_input: tokens, if limited;
    lowercase: before tokenizing; dimensions: lengths a vector may be cut to, None for any (Matryoshka models).
    """

    pooling: Pooling = "mean"
    normalize: bool = True
    longest_input: int | None = None
    lowercase: bool = False
    dimensions: frozenset[int] | None = frozenset()


def read(path: Path, config: dict[str, Any]) -> Sentence:
    """Unit means without such files. Raises Refusal BP661 for modules that the engine does not have."""
    dimensions = _dimensions(config)
    modules = _json(path / "modules.json", [])
    if not modules:
        return Sentence(dimensions=dimensions)
    folders = {module["type"].rpartition(".")[2]: path / module["path"] for module in modules}
    if unserved := sorted(set(folders) - _SERVED_MODULES):
        raise Refusal(
            "BP661",
            f"{path}: modules.json asks for {', '.join(unserved)}, the engine has {', '.join(sorted(_SERVED_MODULES))}.",
            "choose another embedding model.",
        )
    asked = _json(folders["Pooling"] / "config.json", {}) if "Pooling" in folders else {}
    transformer = _json(path / "sentence_bert_config.json", {})
    return Sentence(
        pooling=_pooling(path, asked),
        normalize="Normalize" in folders,
        longest_input=transformer.get("max_seq_length"),
        lowercase=bool(transformer.get("do_lower_case")),
        dimensions=dimensions,
    )


def _pooling(path: Path, asked: dict[str, Any]) -> Pooling:
    """sentence-transformers 6 names one mode, earlier files hold a switch per mode."""
    by_name: dict[str, Pooling] = {"mean": "mean", "cls": "cls", "lasttoken": "last", "max": "max"}
    served = {**by_name, **_POOLING}
    modes = [name for name, on in asked.items() if on is True and name.startswith("pooling_mode_")]
    modes = [asked["pooling_mode"]] if "pooling_mode" in asked else modes
    if len(modes) > 1 or any(mode not in served for mode in modes):
        raise Refusal(
            "BP661",
            f"{path}: 1_Pooling asks for {', '.join(modes)}, the engine has one of {', '.join(by_name)}.",
            "choose another embedding model.",
        )
    return served[modes[0]] if modes else "mean"


def _dimensions(config: dict[str, Any]) -> frozenset[int] | None:
    """The keys that model authors and vLLM use."""
    lengths = config.get("matryoshka_dimensions")
    if lengths:
        return frozenset(lengths)
    return None if config.get("is_matryoshka") else frozenset()


def _json(file: Path, otherwise: Any) -> Any:
    try:
        return json.loads(file.read_bytes()) if file.is_file() else otherwise
    except (OSError, ValueError) as error:
        raise Refusal("BP654", f"{file}: is not readable ({error}).", "copy the model again.") from None
