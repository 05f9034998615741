"""Filters of the roles that publish trees: what a directory of the controller holds, and what a model list asks for."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ansible.module_utils

# Ansible finds plugins/module_utils for modules; for plugins on the controller this does.
ansible.module_utils.__path__.append(str(Path(__file__).resolve().parents[1] / "module_utils"))

from ansible.module_utils.bedplate import manifest, model_refusals, model_source  # noqa: E402 - needs the path above


@contextmanager
def remembered(cache: Path) -> Iterator[dict[str, str]]:
    """Hashes of files read before, by path, size and modification time; written back when something was added."""
    try:
        known = json.loads(cache.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        known = {}
    before = len(known)
    yield known
    if len(known) != before:
        cache.parent.mkdir(parents=True, exist_ok=True)
        fresh = cache.with_suffix(f".{os.getpid()}")
        fresh.write_text(json.dumps(known), encoding="utf-8")
        fresh.replace(cache)


def model_plan(models: Sequence[Mapping[str, Any]], work: str) -> list[dict[str, Any]]:
    """Each model with its source read; see model_source.plan."""
    with remembered(Path(work) / "hashes.json") as known:
        planned: list[dict[str, Any]] = model_source.plan(models, known)
    return planned


def tree_manifest(directory: str, work: str) -> dict[str, Any]:
    """Files of a directory with size and sha256, and the revision they amount to."""
    with remembered(Path(work) / "hashes.json") as known:
        listed: dict[str, Any] = manifest.tree_manifest(directory, known)
    return listed


class FilterModule:
    """model_list | model_plan(work) | model_located(...) | model_fetched(results) | model_receipt(folder); directory | tree_manifest(work)."""

    def filters(self) -> dict[str, object]:
        return {
            "model_plan": model_plan,
            "model_located": model_source.located,
            "model_fetched": model_source.fetched,
            "model_receipt": model_source.receipt,
            "model_refusals": model_refusals.refusals,
            "tree_manifest": tree_manifest,
        }
