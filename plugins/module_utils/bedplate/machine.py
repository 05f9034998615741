"""Where probes look at a host's hardware, and the read-only commands they ask: the real machine, or a recorded tree of one.

Runs on the target inside an Ansible module: standard library only, Python 3.9 or newer, and it never writes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

# The option `machine` of every module that looks at hardware (bedplate_machine in the inventory).
MACHINE_OPTION = {
    "type": "dict",
    "apply_defaults": True,
    "options": {
        "proc": {"type": "path", "default": "/proc"},
        "sys": {"type": "path", "default": "/sys"},
        "dev": {"type": "path", "default": "/dev"},
        "path": {"type": "str", "default": ""},
        "root": {"type": "path", "default": "/"},
    },
}
# Where an administrator's commands are; an SSH login of another user may lack them.
_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# What a shell says of a command that is not there, and `timeout` of one that took too long.
NOT_FOUND, TOO_LONG = 127, 124


class Answer(NamedTuple):
    """What a command said; rc 127: it is not there."""

    rc: int
    out: str
    err: str


@dataclass(frozen=True)
class Machine:
    """The roots to look in: proc, sys, dev, and root for /lib, /usr, /etc and /run. path: put in front of PATH for commands."""

    proc: Path = Path("/proc")
    sys: Path = Path("/sys")
    dev: Path = Path("/dev")
    path: str = ""
    root: Path = Path("/")

    @classmethod
    def of(cls, option: Mapping[str, Any]) -> Machine:
        """The machine of a module's option `machine`."""
        return cls(
            Path(option["proc"]), Path(option["sys"]), Path(option["dev"]), option["path"] or "", Path(option["root"])
        )

    @property
    def search_path(self) -> str:
        """PATH for the commands that look at hardware."""
        return ":".join(part for part in (self.path, os.environ.get("PATH", ""), _SYSTEM_PATH) if part)

    def which(self, command: str) -> str | None:
        """Where a command is, or None."""
        return shutil.which(command, path=self.search_path)

    def ask(self, argv: Sequence[str], timeout: float = 60) -> Answer:
        """Run a read-only command in the C locale."""
        program = self.which(argv[0])
        if program is None:
            return Answer(NOT_FOUND, "", f"{argv[0]}: command not found")
        environment = {**os.environ, "LC_ALL": "C", "PATH": self.search_path}
        try:
            done = subprocess.run(
                [program, *argv[1:]],
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout,
                check=False,
                env=environment,
            )
        except subprocess.TimeoutExpired:
            return Answer(TOO_LONG, "", f"{argv[0]} did not answer within {timeout:.0f} s")
        except OSError as error:
            return Answer(NOT_FOUND, "", str(error))
        return Answer(done.returncode, done.stdout, done.stderr)

    def below(self, path: str) -> Path:
        """A path of the root file system, as "etc/modprobe.d"."""
        return self.root / path
