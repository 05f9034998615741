"""Filters of the roles that publish trees: what a directory of the controller holds, and what a model list asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ansible.module_utils

# Ansible finds plugins/module_utils for modules; for plugins on the controller this does.
ansible.module_utils.__path__.append(str(Path(__file__).resolve().parents[1] / "module_utils"))

from ansible.module_utils.bedplate import manifest, model_fanout, model_lock, model_refusals, model_source  # noqa: E402 - needs the path above


def model_plan(
    models: Sequence[Mapping[str, Any]],
    work: str,
    lock: str,
    origins: Sequence[str] = (),
    fresh: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[dict[str, Any]]:
    """Each model with its source and its entry of models.lock read; see model_source.plan. fresh: entries not written yet."""
    try:
        locks, problems = {**model_lock.read_lock(lock), **(fresh or {})}, []
    except model_lock.LockError as error:
        locks, problems = {}, [str(error)]
    with manifest.remembered(Path(work) / "hashes.json") as known:
        planned: list[dict[str, Any]] = model_source.plan(models, known, locks, origins)
    needs_lock = [model for model in planned if model["kind"] not in (None, "directory")]
    for model in needs_lock[:1]:
        model["problems"] += problems
    return planned


def lock_text(lock: str, entries: Mapping[str, Mapping[str, Any]]) -> str:
    """The text of a models.lock with these entries added."""
    text: str = model_lock.lock_text(
        {**model_lock.read_lock(lock), **{source: dict(entries[source]) for source in entries}}
    )
    return text


def tree_manifest(directory: str, work: str) -> dict[str, Any]:
    """Files of a directory with size and sha256, and the revision they amount to."""
    with manifest.remembered(Path(work) / "hashes.json") as known:
        listed: dict[str, Any] = manifest.tree_manifest(directory, known)
    return listed


class FilterModule:
    """model_list | model_plan(work, lock) | model_located(...) | model_receipt(folder); directory | tree_manifest(work); and the like."""

    def filters(self) -> dict[str, object]:
        return {
            "model_plan": model_plan,
            "model_lock_text": lock_text,
            "model_located": model_source.located,
            "model_unlocked": model_source.unlocked,
            "model_receipt": model_source.receipt,
            "model_refusals": model_refusals.refusals,
            "model_missing_bytes": model_fanout.missing_bytes,
            "model_change_words": model_fanout.change_words,
            "model_origins": model_fanout.origins_of,
            "model_seeds": model_fanout.seeds,
            "model_fed_by_others": model_fanout.fed_by_others,
            "tree_manifest": tree_manifest,
        }
