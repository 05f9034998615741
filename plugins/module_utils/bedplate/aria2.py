"""aria2: fetch files over several connections, in pieces that survive a kill.

What is fetched and from where goes through standard input: an address may be signed, and no process list shows it. Progress is read
from aria2's own control files. Standard library only, Python 3.9 or newer.
"""

from __future__ import annotations

import os
import struct
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

# aria2's own exit statuses that need a word of their own.
DISK_FULL = 9
CONTROL = ".aria2"
COMPLETE = "Download complete: "


@dataclass(frozen=True)
class Want:
    """One file: its path below the folder, where it comes from, headers for that."""

    path: str
    url: str
    headers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Settings:
    """How aria2 fetches. falloc reserves a file's room first: a full disk is seen before the first byte, and resuming stays possible.

    Few files at once: those that are there are proven while the next ones come.
    """

    program: str = "aria2c"
    files: int = 2
    connections: int = 8
    allocation: str = "falloc"
    ca_file: str = ""


def command(folder: Path, settings: Settings) -> list[str]:
    """The call; what to fetch is read from standard input."""
    given = {
        "input-file": "-",
        "dir": folder,
        "continue": "true",
        "allow-overwrite": "true",
        "auto-file-renaming": "false",
        "auto-save-interval": 1,
        "file-allocation": settings.allocation,
        "max-concurrent-downloads": settings.files,
        "max-connection-per-server": settings.connections,
        "split": settings.connections,
        "min-split-size": "8M",
        "disk-cache": "64M",
        "connect-timeout": 20,
        "timeout": 60,
        "max-tries": 4,
        "retry-wait": 2,
        "max-file-not-found": 1,
        "remote-time": "false",
        "follow-metalink": "false",
        "follow-torrent": "false",
        "http-accept-gzip": "false",
        "no-netrc": "true",
        "user-agent": "bedplate",
        "stop-with-process": os.getpid(),
        "summary-interval": 0,
        "show-console-readout": "false",
        "download-result": "hide",
        "console-log-level": "notice",
        "enable-color": "false",
    }
    if settings.ca_file:
        given["ca-certificate"] = settings.ca_file
    return [settings.program, "--no-conf", *(f"--{name}={value}" for name, value in given.items())]


def listing(wants: Iterable[Want]) -> str:
    """What aria2 reads: an address a line, its options indented below."""
    lines: list[str] = []
    for want in wants:
        lines += [want.url, f"  out={want.path}", *(f"  header={header}" for header in want.headers)]
    return "\n".join(lines) + "\n"


def fetch(
    folder: Path,
    wants: list[Want],
    settings: Settings,
    complete: Callable[[str], None],
) -> tuple[int, str]:
    """Run aria2 until it has done what it could; its exit status and the last thing it complained of.

    complete is told each path (below the folder) as soon as its last byte is written. A killed aria2 has a negative status.
    """
    complaint = ""
    with subprocess.Popen(
        command(folder, settings),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(listing(wants))
            process.stdin.close()
        except BrokenPipeError:
            pass
        for line in process.stdout:
            said = line.strip()
            if COMPLETE in said:
                complete(os.path.relpath(said.partition(COMPLETE)[2], folder))
            elif "[ERROR]" in said or said.startswith(("Exception:", "->", "errorCode=")):
                # The cause is the last of its lines; the addresses in others may be signed.
                complaint = complaint if "URI=" in said else said.rpartition("]")[2].strip() or complaint
    return process.returncode, complaint


def fetched_bytes(path: Path) -> int:
    """How much of a file under way is there, by its control file; 0 without one.

    The control file: version (2), extension (4), info hash (its length, 4, and that many), piece length (4), total (8), uploaded
    (8), length of the bit field (4), the bit field, pieces in flight (4) with index, length, length of a bit field and that; all numbers
    in network order.
    """
    try:
        data = path.with_name(path.name + CONTROL).read_bytes()
        (hash_length,) = struct.unpack_from(">I", data, 6)
        place = 10 + hash_length
        piece, total, _, bits = struct.unpack_from(">IQQI", data, place)
        place += 24
        field = data[place : place + bits]
        done = sum(bin(byte).count("1") for byte in field) * piece
        (flying,) = struct.unpack_from(">I", data, place + bits)
        place += bits + 4
        for _ in range(flying):
            _, length, own = struct.unpack_from(">III", data, place)
            blocks = sum(bin(byte).count("1") for byte in data[place + 12 : place + 12 + own])
            done += min(blocks * (1 << 14), length)
            place += 12 + own
        return int(min(done, total))
    except (OSError, struct.error):
        return 0
