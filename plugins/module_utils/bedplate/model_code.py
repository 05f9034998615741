"""Code that a model brings of its own (`auto_map`): never run, and left where it is.

A model that brings some is refused unless `ignore_remote_code` in its entry of model_list names the very commit: whoever wrote that
has seen that Transformers' own class does for it. Standard library only, Python 3.9 or newer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from .refusal import refusal

# The files that name code for Transformers to import.
_NAMING = ("config.json", "tokenizer_config.json")


def brought_code(texts: Mapping[str, str]) -> dict[str, str]:
    """The model's own classes by what they stand in for, from the texts of its small files: {AutoModel: modeling_own.Own}."""
    found = {}
    for path in _NAMING:
        try:
            named = json.loads(texts.get(path, "")).get("auto_map") or {}
            found.update({str(kind): _class(one) for kind, one in named.items()})
        except (ValueError, AttributeError):
            continue
    return found


def code_problems(name: str, code: Mapping[str, str], commit: str, opted: object) -> list[str]:
    """The refusal of a model with code of its own, none where `opted`, the entry's ignore_remote_code, names its commit.

    commit: in full; of a source that has none, the revision that its files amount to.
    """
    if not code or opted == commit:
        return []
    found = f"auto_map {json.dumps(dict(code))} at {commit}"
    if opted:
        found += f", while ignore_remote_code names {opted}"
    fix = (
        "use a model whose architecture Transformers has itself; if it has this one's, look at what the code is for and set "
        f"ignore_remote_code: {commit} in model_list to serve the model without it."
    )
    return [refusal("BP504", f"model {name} brings its own code", found, "an architecture of Transformers", fix)]


def _class(named: object) -> str:
    """A class as auto_map names it; of a tokenizer it is a pair, slow and fast."""
    return str(next((one for one in reversed(named) if one), "")) if isinstance(named, list) else str(named)
