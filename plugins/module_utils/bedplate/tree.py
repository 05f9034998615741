"""Publishing a tree of files: filled beside the live one, proven, named in one rename, switched to by a link.

Every step may be the last before a power cut: what stands under a tree's final name was whole and proven, and its bytes were
on the disk. Runs on the server as root: standard library only, Python 3.9 or newer.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from .manifest import Manifest, damaged_files, stray_paths


def incoming_of(dest: Path) -> Path:
    """The folder a tree is filled in, on the same file system as its final name."""
    return dest.parent / ".incoming" / dest.name


def open_incoming(dest: Path, manifest: Manifest, owner: tuple[int, int]) -> Path:
    """Make the folder to fill, owned by (user, group) and seeded with the good files of a damaged tree. Keeps what is there."""
    incoming = incoming_of(dest)
    incoming.mkdir(parents=True, exist_ok=True)
    if dest.is_dir():
        damaged = set(damaged_files(dest, manifest["files"]))
        for entry in manifest["files"]:
            place = incoming / entry["path"]
            if entry["path"] not in damaged and not place.exists():
                place.parent.mkdir(parents=True, exist_ok=True)
                os.link(dest / entry["path"], place)
    for folder, files in _walk(incoming):
        os.chown(folder, *owner)
        folder.chmod(0o700)
        for file in files:
            # A seeded file is the live tree's as well and stays root's.
            if file.lstat().st_nlink == 1:
                os.lchown(file, *owner)
    return incoming


def close_incoming(dest: Path, manifest: Manifest, proven: frozenset[str] = frozenset()) -> list[str]:
    """Take the filled folder over, remove what the manifest does not name, prove the rest but for what the caller has just proven.

    Returns the paths that are absent or wrong; the wrong ones are gone then, so that the next copy brings them again.
    """
    incoming = incoming_of(dest)
    for folder, files in _walk(incoming):
        for place in [folder, *files]:
            os.lchown(place, os.getuid(), os.getgid())
    for stray in stray_paths(incoming, manifest["files"]):
        stray.unlink()
    unproven = [entry for entry in manifest["files"] if entry["path"] not in proven]
    damaged: list[str] = damaged_files(incoming, unproven, flush=True)
    for path in damaged:
        (incoming / path).unlink(missing_ok=True)
    return damaged


def publish(dest: Path, manifest: Manifest, manifest_name: str) -> None:
    """Give the proven folder its name. The manifest inside notes the files' times: later runs compare those first."""
    incoming, replaced = incoming_of(dest), incoming_of(dest).with_name(f"{dest.name}.replaced")
    for folder, files in _walk(incoming, topdown=False):
        for file in files:
            file.chmod(0o444)
        if folder != incoming and not os.listdir(folder):
            folder.rmdir()
    noted = [{**entry, "mtime_ns": (incoming / entry["path"]).stat().st_mtime_ns} for entry in manifest["files"]]
    with (incoming / manifest_name).open("w", encoding="utf-8") as stream:
        json.dump({**manifest, "files": noted}, stream, indent=1)
        stream.flush()
        os.fsync(stream.fileno())
    (incoming / manifest_name).chmod(0o444)
    for folder, _ in _walk(incoming):
        _flush(folder)
    shutil.rmtree(replaced, ignore_errors=True)
    if dest.exists():
        dest.rename(replaced)
    incoming.rename(dest)
    for folder, _ in _walk(dest):
        folder.chmod(0o555)
    _flush(dest.parent)
    shutil.rmtree(replaced, ignore_errors=True)


def point(link: Path, dest: Path) -> None:
    """Switch the link to the tree in one step."""
    link.parent.mkdir(parents=True, exist_ok=True)
    fresh = link.with_name(f".{link.name}.new")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(relative_target(link, dest))
    fresh.replace(link)
    _flush(link.parent)


def relative_target(link: Path, dest: Path) -> str:
    """What the link says when it points at the tree."""
    return os.path.relpath(dest, link.parent)


def _walk(top: Path, *, topdown: bool = True) -> Iterator[tuple[Path, list[Path]]]:
    """Each folder with its files; links count as files."""
    for root, folders, names in os.walk(top, topdown=topdown):
        folder = Path(root)
        yield (
            folder,
            [folder / name for name in names] + [folder / name for name in folders if (folder / name).is_symlink()],
        )


def _flush(folder: Path) -> None:
    """Names are on the disk, too, before anything relies on them."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
