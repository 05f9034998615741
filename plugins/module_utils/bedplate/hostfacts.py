"""Facts about a host that several probe modules read in one go.

Runs on the target inside an Ansible module: standard library only, Python 3.9 or newer, and it never writes.
What is absent is `None` (or left empty), never an error: a probe has to work on a bare host.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ansible.module_utils.bedplate.machine import Machine

_UNIT_PROPERTIES = {
    "LoadState": "load",
    "ActiveState": "active",
    "SubState": "sub",
    "UnitFileState": "enabled",
    "NeedDaemonReload": "need_daemon_reload",
}


def command_output(argv: Sequence[str], timeout: float = 60) -> str | None:
    """Standard output of a read-only command, or None when it is missing or fails."""
    try:
        done = subprocess.run(
            list(argv), capture_output=True, text=True, timeout=timeout, check=False, env={**os.environ, "LC_ALL": "C"}
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def file_sha256(path: str | Path) -> str | None:
    """Hex sha256 of a file, or None when it cannot be read."""
    digest = hashlib.sha256()
    try:
        with Path(path).open("rb") as stream:
            for block in iter(lambda: stream.read(1 << 20), b""):
                digest.update(block)
    except OSError:
        return None
    return digest.hexdigest()


def file_hashes(paths: Iterable[str]) -> dict[str, str | None]:
    """sha256 of each path, None for those that are not there."""
    return {path: file_sha256(path) for path in paths}


def read_text(path: str | Path) -> str | None:
    """A file's text, or None when it cannot be read."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None


def read_json(path: str | Path) -> Any:
    """A file's JSON value, or None when it is absent or not JSON (a half-written stamp is no stamp)."""
    text = read_text(path)
    try:
        return None if text is None else json.loads(text)
    except ValueError:
        return None


def link_target(path: str | Path) -> str | None:
    """Where a symbolic link points, or None when the path is no link."""
    try:
        return str(Path(path).readlink())
    except OSError:
        return None


def free_bytes(path: str | Path) -> int:
    """Free space for unprivileged users on the file system that holds the path, or will once it exists."""
    place = Path(path)
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free


def dpkg_versions(names: Iterable[str]) -> dict[str, str | None]:
    """Version of each Debian package that is fully installed, None for the others."""
    versions: dict[str, str | None] = dict.fromkeys(names)
    if not versions:
        return versions
    # dpkg-query exits 1 as soon as one name is unknown, and still prints the others.
    argv = ["dpkg-query", "-W", "-f", "${Package}\t${db:Status-Status}\t${Version}\n", *versions]
    try:
        printed = subprocess.run(argv, capture_output=True, text=True, check=False).stdout
    except OSError:
        return versions
    for line in printed.splitlines():
        name, status, version = line.split("\t")
        if status == "installed":
            versions[name] = version
    return versions


def unit_states(units: Iterable[str], machine: Machine | None = None) -> dict[str, dict[str, str]]:
    """State of each systemd unit: load, active, sub, enabled, need_daemon_reload (systemd's own words).

    A unit that does not exist has `load: not-found`; without systemd every unit has an empty dictionary.
    """
    wanted = list(units)
    states: dict[str, dict[str, str]] = {unit: {} for unit in wanted}
    if not wanted:
        return states
    answer = (machine or Machine()).ask(["systemctl", "show", "--property", ",".join(_UNIT_PROPERTIES), "--", *wanted])
    if answer.rc != 0:
        return states
    printed = answer.out
    # One block per unit, in the order asked, separated by an empty line.
    for unit, block in zip(wanted, printed.strip("\n").split("\n\n")):
        pairs = (line.partition("=") for line in block.splitlines())
        states[unit] = {_UNIT_PROPERTIES[key]: value for key, _, value in pairs if key in _UNIT_PROPERTIES}
    return states


def memory_bytes(proc: str | Path = "/proc") -> int | None:
    """Installed memory, in bytes (MemTotal counts KiB)."""
    found = re.search(r"^MemTotal:\s+(\d+) kB", read_text(Path(proc) / "meminfo") or "", re.MULTILINE)
    return int(found[1]) * 1024 if found else None


def computes_bfloat16(proc: str | Path = "/proc") -> bool:
    """Whether the CPU has products of bfloat16, as vectors (AVX-512) or tiles (AMX); the engine asks the same (engine/loading.py)."""
    found = re.search(r"^flags\s*:(.*)", read_text(Path(proc) / "cpuinfo") or "", re.MULTILINE)
    return found is not None and not {"avx512_bf16", "amx_bf16"}.isdisjoint(found[1].split())
