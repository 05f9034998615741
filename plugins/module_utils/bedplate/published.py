"""What stands under Bedplate's root by revision (models, releases of the service, builds of the page), and what uses it.

A folder is in use while anything that runs, or that the server may come back to, names it: the service's configuration and unit, the
receipt, the kept generations, or a link `current`. Runs on the server: standard library only, Python 3.9 or newer.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .hostfacts import link_target, read_json, read_text

Item = dict[str, Any]
# Folders below the root, and what one thing in them is called.
KINDS = {"models": "model", "releases": "release", "web": "page"}
INCOMING = ".incoming"


def users(etc: Path, state: Path, receipt: Path, units: Path) -> dict[str, str]:
    """Texts that name what is in use, by why."""
    named = {
        "in use": [etc / "inference.yml", *units.glob("bedplate-*.service"), state / "generations" / "current.json"],
        "to roll back to": [state / "generations" / "previous.json"],
        "installed": [receipt],
    }
    return {why: "\n".join(read_text(path) or "" for path in paths) for why, paths in named.items()}


def published(root: Path, named: dict[str, str], fetching: Iterable[str] = ()) -> list[Item]:
    """`{kind, path, name, bytes, why, ...}` of everything by revision; `why` is empty for what nothing uses.

    named: see `users`. fetching: folders that a transfer fills now. A model also tells its source, licence, files and links.
    """
    found = []
    for below, kind in KINDS.items():
        folder = root / below
        entries = sorted(path for path in folder.glob("[!.]*") if path.is_dir() and not path.is_symlink())
        links = {path.name: link_target(path) for path in folder.glob("*") if path.is_symlink()}
        current = link_target(root / "current") if kind == "release" else links.get("current")
        for path in entries:
            why = next((why for why, text in named.items() if path.name in text), "")
            if current and os.path.basename(current) == path.name:
                why = why or "in use"
            item = {"kind": kind, "path": str(path), "name": path.name, "bytes": _bytes(path), "why": why}
            found.append({**item, **_model(path, links)} if kind == "model" else item)
        for path in sorted((folder / INCOMING).glob("*")):
            why = "being fetched" if path.name in fetching else ""
            found.append(
                {"kind": f"unfinished {kind}", "path": str(path), "name": path.name, "bytes": _bytes(path), "why": why}
            )
    return found


def _model(path: Path, links: dict[str, str | None]) -> dict[str, Any]:
    manifest = read_json(path / "manifest.json")
    manifest = manifest if isinstance(manifest, dict) else {}
    return {
        "links": sorted(name for name, target in links.items() if target == path.name),
        "source": manifest.get("requested") or manifest.get("repo") or "",
        "licence": manifest.get("licence") or "",
        "files": len(manifest.get("files", [])),
    }


def _bytes(path: Path) -> int:
    """Room on the disk, reserved room of unfinished files counted too."""
    return sum(one.lstat().st_blocks * 512 for one in path.rglob("*") if not one.is_symlink() and one.is_file())
