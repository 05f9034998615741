"""`./bedplate model`: lock what models are made of, and list, verify, repair and prune what servers have of them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from ops.inventory import InventoryError, must_exist
from ops.paths import short
from ops.play import Outcome, play, print_failures
from ops.sources import upstream
from plugins.module_utils.bedplate.model_listing import SourceError
from plugins.module_utils.bedplate.model_lock import LockError, lock_text, locked, read_lock
from plugins.module_utils.bedplate.model_reference import FORMS, reference_of
from plugins.module_utils.bedplate.refusal import refusal
from plugins.module_utils.bedplate.sizes import size_words

PLAYBOOK = "playbooks/models.yml"
LOCK = "models.lock"
OK, BAD, REFUSED = 0, 1, 2

Confirm = Callable[[str], bool]


def lock(source: str | None, inventory: Path, endpoint: str | None, token_file: Path | None, console: Console) -> int:
    """Ask a source what it holds and write that into the inventory's models.lock; without a source, every one that stands there anew.

    Returns the exit status: 2 for a source that cannot be locked; the file is as it was then.
    """
    folder = inventory if inventory.is_dir() else inventory.parent
    path = folder / LOCK
    try:
        must_exist(inventory)
        entries = read_lock(path)
        token = token_file.read_text(encoding="utf-8").strip() if token_file else ""
        for one in [source] if source else sorted(entries):
            reference = reference_of(one)
            if reference is None or not reference.locked or reference.kind == "server":
                fix = "correct it; a folder on the controller needs no lock, one on a server is locked by site.yml."
                raise LockError(refusal("BP514", "nothing that can be locked here", repr(one), FORMS, fix))
            endpoints = {"hub": endpoint or upstream("hugging_face"), "modelscope": endpoint or upstream("modelscope")}
            before, entry = entries.get(one), locked(reference, one, endpoints, token)
            entries[one] = entry
            for line in _locked_words(one, entry, before):
                console.print(line, highlight=False, markup=False, soft_wrap=True)
    except (InventoryError, LockError, SourceError, OSError) as error:
        console.print(str(error), highlight=False, markup=False)
        return REFUSED
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(lock_text(entries), encoding="utf-8")
    beside.replace(path)
    console.print(f"written  {short(path)}", highlight=False)
    return OK


def _locked_words(source: str, entry: Mapping[str, Any], before: Mapping[str, Any] | None) -> list[str]:
    """hf://Qwen/Qwen3-8B@main: commit 9c92..., 12 files, 16.4 GB, apache-2.0 (was ...); and what it takes to be served."""
    commit = f"commit {entry['commit'][:12]}" if entry["commit"] else f"revision {entry['revision'][:12]}"
    parts = [
        commit,
        f"{len(entry['files'])} files",
        size_words(entry["bytes"]),
        str(entry["licence"] or "licence not told"),
    ]
    moved = before is not None and before["revision"] != entry["revision"]
    was = f" (was {(before or {}).get('commit') or 'another'})" if moved else ""
    words = [f"{source}: {', '.join(parts)}{was}"]
    if entry.get("remote_code"):
        pin = f"ignore_remote_code: {entry['commit'] or entry['revision']}"
        named = ", ".join(entry["remote_code"].values())
        words.append(f"  it brings its own code ({named}), which stays where it is; site.yml takes it with {pin} alone")
    return words


def show(inventory: Path, limit: str | None, verify: bool, as_json: bool, console: Console) -> int:
    """What each server has; with `verify` every byte of the models is read. 0, or 1 when something is damaged or was not reached."""
    outcome, found = _look(inventory, limit, console, {"models_do": "verified" if verify else "listed"})
    if outcome is None:
        return REFUSED
    if as_json:
        console.print_json(data={host: answer["items"] for host, answer in found.items()})
    else:
        for host, answer in found.items():
            console.print(f"[bold]{host}[/bold]", highlight=False)
            console.print(table(answer["items"], verify))
    damaged = {host: [item for item in answer["items"] if item.get("damaged")] for host, answer in found.items()}
    for host, items in damaged.items():
        for item in items:
            files = ", ".join(item["damaged"][:3])
            console.print(
                refusal(
                    "BP518",
                    f"{host}: {item['name']} is damaged",
                    f"{len(item['damaged'])} wrong file(s), {files}",
                    "the sha256 of its manifest",
                    f"./bedplate model repair --inventory {short(inventory)}",
                ),
                highlight=False,
                markup=False,
                soft_wrap=True,
            )
    if not outcome.ok:
        print_failures(outcome, console, f"./bedplate model list --inventory {short(inventory)}")
    return OK if outcome.ok and not any(damaged.values()) else BAD


def table(items: list[dict[str, Any]], verified: bool = False) -> Table:
    """A row per folder: what it is, its size, what uses it."""
    result = Table("what", "name", "size", "used", "as", "source", "licence", box=None, pad_edge=False)
    if verified:
        result.add_column("bytes")
    for item in items:
        row = [
            item["kind"],
            item["name"],
            size_words(item["bytes"]),
            item["why"] or "by nothing",
            ", ".join(item.get("links", [])),
        ]
        row += [item.get("source", ""), item.get("licence", "")]
        proven = "" if item["kind"] != "model" else "damaged" if item.get("damaged") else "proven"
        result.add_row(*row, *([proven] if verified else []))
    return result


def prune(inventory: Path, limit: str | None, yes: bool, confirm: Confirm, console: Console) -> int:
    """Remove what nothing uses, after showing it with its size and being told to."""
    outcome, found = _look(inventory, limit, console, {})
    if outcome is None:
        return REFUSED
    unused = {host: [item for item in answer["items"] if not item["why"]] for host, answer in found.items()}
    for host, items in unused.items():
        if items:
            console.print(f"[bold]{host}[/bold]: nothing uses", highlight=False)
            console.print(table(items))
    count, size = sum(map(len, unused.values())), sum(item["bytes"] for items in unused.values() for item in items)
    if not count:
        console.print("Everything is used: nothing to remove.", highlight=False)
    elif not yes and not confirm(f"Remove {count} folder(s), {size_words(size)}?"):
        console.print("Nothing was removed.", highlight=False)
    else:
        paths = {host: [item["path"] for item in items] for host, items in unused.items()}
        outcome, gone = _look(inventory, limit, console, {"models_do": "pruned", "models_paths": paths})
        removed = sum(len(answer["removed"]) for answer in gone.values())
        console.print(f"{removed} folder(s) removed.", highlight=False)
    if outcome is not None and not outcome.ok:
        print_failures(outcome, console, f"./bedplate model prune --inventory {short(inventory)}")
    return OK if outcome is not None and outcome.ok else BAD


def repair(inventory: Path, limit: str | None, console: Console) -> int:
    """Read every byte, bring damaged files again and those alone; a service that may have read them restarts."""
    try:
        must_exist(inventory)
    except InventoryError as error:
        console.print(str(error), highlight=False, markup=False)
        return REFUSED
    outcome = play("playbooks/repair_models.yml", inventory, console, limit=limit)
    if not outcome.ok:
        print_failures(outcome, console, f"./bedplate model repair --inventory {short(inventory)}")
        return BAD
    return OK


def _look(
    inventory: Path, limit: str | None, console: Console, extra: Mapping[str, Any]
) -> tuple[Outcome | None, dict[str, dict[str, Any]]]:
    """The outcome of playbooks/models.yml and what each host told; no outcome where there is no inventory."""
    try:
        must_exist(inventory)
    except InventoryError as error:
        console.print(str(error), highlight=False, markup=False)
        return None, {}
    outcome = play(PLAYBOOK, inventory, Console(stderr=True), limit=limit, lines=False, extra=extra)
    told = {host: lines[0] for task in outcome.run.tasks for host, lines in task.said.items()}
    return outcome, {host: json.loads(line) for host, line in told.items()}
