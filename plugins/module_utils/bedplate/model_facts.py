"""Facts about a model that decide whether and how it can be served, from its small files and the first bytes of its weights.

They fit into a lock, so that a play can refuse without a connection. Standard library only, Python 3.9 or newer.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from .model_shape import header_length, header_of, shape_of, text_config

# read(path, start, length): bytes of one of the model's files; fewer where it ends.
Read = Callable[[str, int, int], bytes]
# Most headers are shorter, so that one question is enough.
_FIRST, _SMALL = 1 << 17, 1 << 22


def facts_of(files: Iterable[Mapping[str, Any]], read: Read) -> dict[str, Any]:
    """Facts of the model with these files ({path, ...}). Raises ValueError for a file that is not what its name says.

    shape: see model_shape.shape_of. template: whether it knows chats. tokenizer: whether it has a fast one. labels: of a
    classifier. layer_kinds, shared_layers: what attention it has.
    """
    paths = [str(entry["path"]) for entry in files]
    config = _json(paths, "config.json", read)
    words = _json(paths, "tokenizer_config.json", read)
    tensors: dict[str, dict[str, Any]] = {}
    for path in sorted(path for path in paths if path.endswith(".safetensors") and "/" not in path):
        try:
            tensors.update(_header(path, read))
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
    text = text_config(config)
    return {
        "shape": shape_of(config, tensors),
        "template": "chat_template.jinja" in paths or bool(words.get("chat_template")),
        "tokenizer": "tokenizer.json" in paths,
        "labels": len(config.get("id2label") or {0: "", 1: ""}),
        "layer_kinds": sorted({str(kind) for kind in text.get("layer_types") or []}),
        "shared_layers": int(text.get("num_kv_shared_layers") or 0),
    }


def facts_of_directory(folder: str | Path) -> dict[str, Any]:
    """Facts of a model in a directory; raises OSError or ValueError where it cannot be read."""
    root = Path(folder)

    def read(path: str, start: int, length: int) -> bytes:
        with (root / path).open("rb") as stream:
            stream.seek(start)
            return stream.read(length)

    return facts_of([{"path": path.relative_to(root).as_posix()} for path in root.rglob("*") if path.is_file()], read)


def _header(path: str, read: Read) -> dict[str, dict[str, Any]]:
    first = read(path, 0, _FIRST)
    length = header_length(first)
    if length > len(first):
        first += read(path, len(first), length - len(first))
    return header_of(first)


def _json(paths: list[str], name: str, read: Read) -> dict[str, Any]:
    if name not in paths:
        return {}
    content = json.loads(read(name, 0, _SMALL))
    return content if isinstance(content, dict) else {}
