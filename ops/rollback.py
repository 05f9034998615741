"""`./bedplate rollback`: bring back what the service was before its environment or its code last changed."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from ops.inventory import InventoryError, must_exist
from ops.paths import short
from ops.play import play, print_failures


def rollback(inventory: Path, limit: str | None, console: Console) -> int:
    """Run playbooks/rollback.yml and say what came of it; returns the exit status."""
    try:
        # Ansible reads it itself; asking it for the hosts first would cost a second.
        must_exist(inventory)
    except InventoryError as error:
        console.print(str(error), highlight=False, markup=False)
        return 2
    outcome = play("playbooks/rollback.yml", inventory, console, limit=limit, lines=False)
    for task in outcome.run.tasks:
        for host, lines in task.said.items():
            console.print(f"[bold]{host}[/bold]", highlight=False)
            for line in lines:
                console.print(f"  {line}", highlight=False, markup=False, soft_wrap=True)
    console.print(f"took {outcome.seconds:.1f} s", highlight=False)
    if not outcome.ok:
        print_failures(outcome, console, f"./bedplate status --inventory {short(inventory)}")
        return 1
    return 0
