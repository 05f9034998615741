"""A tree of files by content: what it should hold, and whether it does.

Models, releases of the service and web builds are published the same way: the controller writes down every file's size
and sha256, the server proves them before the tree gets its name. A tree's revision is the hash of that list, so equal
content has one name. Runs on both sides: standard library only, Python 3.9 or newer.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Never part of a tree: what tools leave behind. Kept in step with the exclusions of the copy (roles/bedplate_tree).
IGNORED_DIRECTORIES = frozenset(
    {".git", ".cache", "__pycache__", "node_modules", ".mypy_cache", ".ruff_cache", ".pytest_cache"}
)
IGNORED_FILES = frozenset({".DS_Store", ".gitignore", ".gitattributes", "manifest.json", ".manifest.json"})

Entry = dict[str, Any]
Manifest = dict[str, Any]


def tree_files(directory: str | Path) -> Iterator[str]:
    """Relative paths of a tree's files. Links are followed: a Hub cache's snapshot is made of links."""
    for root, folders, names in os.walk(directory, followlinks=True):
        folders[:] = [name for name in folders if name not in IGNORED_DIRECTORIES]
        for name in names:
            if name not in IGNORED_FILES:
                yield (Path(root) / name).relative_to(directory).as_posix()


def sha256_of(path: str | Path, *, flush: bool = False) -> str:
    """Hex sha256 of a file; with `flush` its bytes are on the disk before the answer comes."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as stream:
        while block := stream.read(1 << 22):
            digest.update(block)
        if flush:
            os.fsync(stream.fileno())
    return digest.hexdigest()


def tree_manifest(directory: str | Path, known: MutableMapping[str, str] | None = None) -> Manifest:
    """`{revision, bytes, files: [{path, size, sha256}]}` of a directory, files in order of their path.

    `known` remembers hashes between calls by path, size and modification time, so that a model of many gigabytes is
    read once.
    """
    files: list[Entry] = []
    for path in sorted(tree_files(directory)):
        place = (Path(directory) / path).resolve()
        status = place.stat()
        key = f"{place}:{status.st_size}:{status.st_mtime_ns}"
        digest = (known or {}).get(key) or sha256_of(place)
        if known is not None:
            known[key] = digest
        files.append({"path": path, "size": status.st_size, "sha256": digest})
    return {"revision": tree_revision(files), "bytes": sum(entry["size"] for entry in files), "files": files}


def tree_revision(files: list[Entry]) -> str:
    """Hex sha256 over the sorted (path, sha256) pairs."""
    pairs = sorted((entry["path"], entry["sha256"]) for entry in files)
    return hashlib.sha256(json.dumps(pairs, separators=(",", ":")).encode()).hexdigest()


def damaged_files(directory: str | Path, files: list[Entry], *, flush: bool = False) -> list[str]:
    """Paths of the manifest that are absent from the directory or differ from it. Reads every byte."""
    return [entry["path"] for entry in files if not _matches(Path(directory) / entry["path"], entry, flush=flush)]


def _matches(place: Path, entry: Entry, *, flush: bool) -> bool:
    if place.is_symlink() or not place.is_file() or place.stat().st_size != entry["size"]:
        return False
    return sha256_of(place, flush=flush) == str(entry["sha256"])


def stray_paths(directory: str | Path, files: list[Entry]) -> list[Path]:
    """Files and links of the directory that its manifest does not name."""
    wanted = {entry["path"] for entry in files}
    found = (
        Path(root) / name for root, folders, names in os.walk(directory) for name in [*names, *_links(root, folders)]
    )
    return [path for path in found if path.relative_to(directory).as_posix() not in wanted]


def _links(root: str, folders: list[str]) -> list[str]:
    return [name for name in folders if (Path(root) / name).is_symlink()]


def is_untouched(directory: str | Path, manifest: Manifest | None) -> bool:
    """Whether a published tree still has the sizes and modification times written down when its bytes were proven.

    Costs one stat per file. `damaged_files` is the answer that reads the bytes.
    """
    if not manifest or not manifest.get("files"):
        return False
    try:
        return all(
            (status.st_size, status.st_mtime_ns) == (entry["size"], entry["mtime_ns"])
            for entry in manifest["files"]
            for status in [(Path(directory) / entry["path"]).lstat()]
        )
    except (OSError, KeyError):
        return False


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
