"""TCP ports of a host and who holds them, read from the proc file system. Standard library only; never writes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ansible.module_utils.bedplate.hostfacts import read_text

TCP_LISTEN = "0A"


def listeners(proc: Path) -> list[dict[str, Any]]:
    """TCP ports something listens on: [{port, process}]; process is None when it cannot be told."""
    found: dict[int, str] = {}
    for table in ("net/tcp", "net/tcp6"):
        for line in (read_text(proc / table) or "").splitlines()[1:]:
            fields = line.split()
            if fields[3] == TCP_LISTEN:
                found[int(fields[1].rsplit(":", 1)[1], 16)] = fields[9]
    owners = socket_owners(proc) if found else {}
    return [{"port": port, "process": owners.get(inode)} for port, inode in sorted(found.items())]


def socket_owners(proc: Path) -> dict[str, str]:
    """Process name by socket inode, for the processes this user may look into."""
    owners: dict[str, str] = {}
    for process in proc.glob("[0-9]*"):
        try:
            targets = [os.readlink(link) for link in (process / "fd").iterdir()]
        except OSError:
            continue
        for target in targets:
            if target.startswith("socket:["):
                owners[target[8:-1]] = (read_text(process / "comm") or "").strip()
    return owners
