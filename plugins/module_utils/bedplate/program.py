"""Run a part of these utilities as a program of its own on the server, apart from Ansible, in a transient systemd unit."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

_START = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from ansible.module_utils.bedplate import {name} as program; sys.exit(program.main({arguments}))"
)


def install(place: Path, parts: Sequence[ModuleType]) -> Path:
    """Write the modules out as a package below `place`; they came in Ansible's archive, which is gone when the call is over."""
    program = place / "program"
    package = program / "ansible" / "module_utils" / "bedplate"
    package.mkdir(mode=0o755, parents=True, exist_ok=True)
    for folder in (package, package.parent, package.parent.parent):
        (folder / "__init__.py").touch()
    for part in parts:
        (package / (part.__name__.rpartition(".")[2] + ".py")).write_text(inspect.getsource(part), encoding="utf-8")
    return program


def command(program: Path, part: ModuleType, *arguments: object) -> list[str]:
    """The call of `main(*arguments)` of an installed module, by the Python that runs this."""
    call = _START.format(name=part.__name__.rpartition(".")[2], arguments=", ".join(map(repr, arguments)))
    return [sys.executable, "-I", "-c", call, str(program)]


def unit_command(unit: str, properties: Mapping[str, Any], call: Sequence[str]) -> list[str]:
    """systemd-run for a call. A value that is a list stands for the property several times."""
    given = [
        f"--property={name}={one}"
        for name, value in properties.items()
        for one in (value if isinstance(value, list) else [value])
    ]
    return ["systemd-run", "--quiet", "--collect", "--unit", unit, *given, *call]
