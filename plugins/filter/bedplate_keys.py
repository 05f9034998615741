"""Filters of the role inference: API keys as a person gives them, as the service stores them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ansible.module_utils

# Ansible finds plugins/module_utils for modules; for plugins on the controller this does.
ansible.module_utils.__path__.append(str(Path(__file__).resolve().parents[1] / "module_utils"))

from ansible.module_utils.bedplate.refusal import refusal  # noqa: E402 - needs the path above

_LIMITS = ("requests_per_minute", "concurrency")
_KEY = re.compile(r"bp-([0-9a-f]{8})-[0-9a-f]{64}")
_ID = re.compile(r"[0-9a-z]{4,32}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


def stored_keys(entries: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Keys as the service stores them: `id` and `sha256` of the whole key, never the key; limits where it has its own."""
    return [_stored(entry) for entry in entries]


def _stored(entry: Mapping[str, Any]) -> dict[str, Any]:
    text = str(entry.get("key", "")).strip()
    key = _KEY.fullmatch(text)
    return {
        "id": key[1] if key else str(entry.get("id", "")),
        "sha256": hashlib.sha256(text.encode()).hexdigest() if key else str(entry.get("sha256", "")),
        "name": str(entry.get("name", "")),
        "expires": entry.get("expires"),
        **{limit: int(entry[limit]) for limit in _LIMITS if entry.get(limit)},
    }


def key_problems(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """Refusals for keys the service would not take. A key's own text is in none of them."""
    fix = "correct inference_api_keys; a fresh key: echo bp-$(openssl rand -hex 4)-$(openssl rand -hex 32)"
    problems = []
    for number, (entry, stored) in enumerate(zip(entries, stored_keys(entries), strict=True)):
        whole = (
            f"bp-, 8 hexadecimal digits, -, 64 hexadecimal digits (or id and sha256 of such a key) in entry {number}"
        )
        if not (_ID.fullmatch(stored["id"]) and _DIGEST.fullmatch(stored["sha256"])):
            found = "another form" if entry.get("key") else f"the keys {', '.join(sorted(entry))}"
            problems.append(refusal("BP602", f"API key {stored['name']!r}", found, whole, fix))
    names = [stored["id"] for stored in stored_keys(entries)]
    if len(set(names)) < len(names):
        problems.append(refusal("BP602", "API keys", "two keys of one id", "different ids", fix))
    return problems


class FilterModule:
    """keys | stored_keys, keys | key_problems."""

    def filters(self) -> dict[str, object]:
        return {"stored_keys": stored_keys, "key_problems": key_problems}
