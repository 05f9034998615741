"""The locks of torch builds: one file per release and wheel variant, whose first lines say what it is for.

# torch 2.10.0+cu128 with the libraries it pins, for x86_64, Python 3.11 to 3.14.
# lock: {"torch": "2.10.0", "variant": "cu128", "architectures": ["x86_64"], "pythons": ["3.11", "3.12", "3.13", "3.14"]}
# made by: ./bedplate lock --torch 2.10.0 --variant cu128

Runs on the controller. Pure functions over names and texts, and one that reads folders.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from .refusal import refusal

# torch-2.10.0-cu128.txt
_NAME = re.compile(r"torch-(?P<torch>\d[\w.]*)-(?P<variant>cpu|cu\d+)\.txt")
_HEADER = re.compile(r"^# lock: (\{.*\})$", re.MULTILINE)
_ENTRY = re.compile(r"^(?P<name>[A-Za-z0-9][\w.-]*)==(?P<version>[^\s;\\]+)")
_SHA256 = re.compile(r"--hash=sha256:[0-9a-f]{64}\b")
_KEYS = ("torch", "variant", "architectures", "pythons")

# {torch, variant, architectures, pythons, path}
TorchLock = Mapping[str, Any]


def name_of(torch: str, variant: str) -> str:
    """The file name of a build's lock."""
    return f"torch-{torch}-{variant}.txt"


def header(torch: str, variant: str, architectures: Sequence[str], pythons: Sequence[str], made_by: str) -> str:
    """The first lines of a lock."""
    said = {"torch": torch, "variant": variant, "architectures": list(architectures), "pythons": list(pythons)}
    span = pythons[0] if len(pythons) == 1 else f"{pythons[0]} to {pythons[-1]}"
    return (
        f"# torch {torch}+{variant} with the libraries it pins, for {' and '.join(architectures)}, Python {span}.\n"
        "# What else torch needs is in the lock of the environment that uses it.\n"
        f"# lock: {json.dumps(said)}\n"
        f"# made by: {made_by}\n"
    )


def read_lock(path: str, text: str) -> dict[str, Any]:
    """What a lock says it is for, with its path. Without a header line, what its name says, for any machine and Python."""
    name = _NAME.fullmatch(path.rsplit("/", 1)[-1])
    said: dict[str, Any] = name.groupdict() if name else {}
    if found := _HEADER.search(text):
        said |= json.loads(found[1])
    return {"architectures": [], "pythons": [], **said, "path": path}


def lock_problems(path: str, text: str) -> list[str]:
    """Refusals for a lock that is damaged or not what its name says; empty for a good one."""
    try:
        causes = list(_causes(path, text))
    except ValueError as error:
        causes = [f"a header that is no JSON ({error})"]
    wanted = "the lock its name says, with a sha256 for every package"
    fix = "write it anew with ./bedplate lock (docs/how-to.md), or remove it."
    return [refusal("BP307", f"damaged lock {path}", cause, wanted, fix) for cause in causes]


def _causes(path: str, text: str) -> Iterator[str]:
    name, said = _NAME.fullmatch(path.rsplit("/", 1)[-1]), read_lock(path, text)
    if name is None:
        yield "a name other than torch-<version>-<variant>.txt"
        return
    for key, written in name.groupdict().items():
        if said[key] != written:
            yield f"{key} {said[key]} in its header"
    if unknown := set(said) - {*_KEYS, "path"}:
        yield f"{', '.join(sorted(unknown))} in its header"
    pinned = dict(entries(text))
    torch = pinned.get("torch", "").split("==")[-1].split()[0] if "torch" in pinned else "no torch"
    if torch.split("+")[0] != name["torch"] or torch.partition("+")[2] not in ("", name["variant"]):
        yield f"torch {torch} in it"
    for package, entry in entries(text):
        if not _SHA256.search(entry):
            yield f"no sha256 for {package}"


def entries(text: str) -> Iterator[tuple[str, str]]:
    """(package, its lines) of a lock; a package is one entry, continued by backslashes."""
    for entry in re.split(r"(?<!\\)\n", text):
        if found := _ENTRY.match(entry):
            yield found["name"], entry


def read_folders(folders: Iterable[str]) -> list[tuple[str, str]]:
    """(path, text) of each lock in some folders, in their order."""
    paths = [path for folder in folders for path in sorted(Path(folder).glob("torch-*.txt"))]
    return [(str(path), path.read_text(encoding="utf-8")) for path in paths]


def in_use(locks: Sequence[TorchLock]) -> list[TorchLock]:
    """One lock per build: the last listed wins, so that a folder of one's own replaces a lock of the checkout."""
    return list({(lock["torch"], lock["variant"]): lock for lock in locks}.values())


def lock_of(locks: Sequence[TorchLock], torch: str | None, variant: str | None) -> str | None:
    """The path of a build's lock, or None."""
    found = (lock["path"] for lock in locks if (lock["torch"], lock["variant"]) == (torch, variant))
    return next(found, None)


def stand_in(locks: Sequence[TorchLock], variant: str, arch: str, python: str) -> str | None:
    """The path of the newest lock of a variant for a machine: whose bytes a test installs in place of the decided build's."""
    series = ".".join(str(python).split(".")[:2])
    fitting = [
        lock
        for lock in locks
        if lock["variant"] == variant
        and arch in (lock["architectures"] or [arch])
        and series in (lock["pythons"] or [series])
    ]
    newest = max(fitting, key=lambda lock: [int(part) for part in re.findall(r"\d+", lock["torch"])], default=None)
    return newest["path"] if newest else None
