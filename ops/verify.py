"""`./bedplate verify`: the layer tests against any inventory, and a table host × layer."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from rich.console import Console

from ops.inventory import InventoryError, hosts, servers_and_gateways
from ops.paths import REPORTS, ROOT


def verify(inventory: Path, console: Console) -> int:
    """Run tests/infra against the inventory's servers; returns pytest's exit status."""
    try:
        hosts(inventory)
    except InventoryError as error:
        console.print(str(error), highlight=False, markup=False)
        return 2
    return subprocess.run(verify_command(inventory, REPORTS / "verify.xml"), cwd=ROOT, check=False).returncode


def verify_command(inventory: Path, junit: Path) -> list[str]:
    """The pytest call that reads the live servers over SSH (one connection per host, kept open)."""
    return [
        sys.executable,
        "-m",
        "pytest",
        "tests/infra",
        f"--hosts={','.join(f'ansible://{host.name}' for host in servers_and_gateways(inventory))}",
        f"--ansible-inventory={inventory}",
        "--sudo",
        "--ssh-extra-args=-o ControlMaster=auto -o ControlPersist=60s -o ControlPath=~/.ssh/bedplate-%C",
        f"--junitxml={junit}",
        "-q",
    ]
