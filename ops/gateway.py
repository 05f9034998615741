"""`./bedplate drain`, `undrain` and `roll`: what is done to one server while the others behind a gateway answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console

from ops.inventory import InventoryError, hosts
from ops.paths import short
from ops.play import play, print_failures


def known(inventory: Path, name: str) -> None:
    """Raises InventoryError where the inventory has no such server."""
    names = [host.name for host in hosts(inventory)]
    if name not in names:
        raise InventoryError(
            f"BP438 no such server: found {name}, wanted one of {', '.join(names)}. Fix: name a host of the group gpu_servers."
        )


def drain(inventory: Path, name: str, state: str, settings: dict[str, Any], console: Console) -> int:
    """Run playbooks/drain.yml on one server; state: present or absent. Returns the exit status."""
    try:
        known(inventory, name)
    except InventoryError as error:
        console.print(str(error), highlight=False, markup=False)
        return 2
    outcome = play(
        "playbooks/drain.yml", inventory, console, limit=name, extra={"drain_state": state, **settings}, lines=False
    )
    if not outcome.ok:
        print_failures(outcome, console, f"./bedplate status --inventory {short(inventory)}")
        return 1
    what = (
        f"{name} is drained: gateways send it nothing, no answer is under way"
        if state == "present"
        else f"{name} serves again"
    )
    console.print(f"{what}   took {outcome.seconds:.1f} s", highlight=False)
    return 0


def roll(inventory: Path, restart: bool, limit: str | None, console: Console) -> int:
    """Run playbooks/rolling.yml: update, or only restart, one server after the other. Returns the exit status."""
    try:
        hosts(inventory)
    except InventoryError as error:
        console.print(str(error), highlight=False, markup=False)
        return 2
    outcome = play("playbooks/rolling.yml", inventory, console, limit=limit, extra={"rolling_restart": restart})
    if not outcome.ok:
        print_failures(outcome, console, f"./bedplate roll --inventory {short(inventory)}")
        return 1
    console.print(f"took {outcome.seconds:.1f} s", highlight=False)
    return 0
