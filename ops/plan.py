"""`./bedplate plan`: what site.yml would change on each server, layer by layer, in words. Changes nothing.

It runs site.yml in check mode and collects what the roles say of themselves there (their tasks "Say what would change").
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from ops.events import Run
from ops.inventory import InventoryError, servers_and_gateways
from ops.paths import ROOT
from ops.play import play

LAYERS = {
    "infrastructure": "infrastructure",
    "base": "base software",
    "application": "application",
    "gateways": "gateway",
}
NOTHING, STOPPED, CHANGES = 0, 1, 2


@dataclass(frozen=True)
class Step:
    """One thing that would change."""

    layer: str
    role: str
    text: str


def steps(run: Run, host: str) -> list[Step]:
    """What would change on a host, in the order it would happen.

    A role that gives sentences is told by them; of one that gives none the names of its changing tasks are told, which are
    sentences as well. What follows from those (the receipt, the copying of a tree) is told only when nothing else would change.
    """
    found: list[Step] = []
    for layer, role, tasks in run.by_role():
        changing = [task for task in tasks if task.results.get(host) == "changed"]
        sentences = [line for task in changing for line in task.said.get(host, [])]
        names = [task.name for task in changing]
        if sentences or not (role == layer or role.startswith("bedplate_")):
            found += [Step(layer, role, text) for text in sentences or names]
    if not found:
        changing = [task for task in run.tasks if task.results.get(host) == "changed"]
        found = [Step(task.layer, task.role, task.name) for task in changing]
    return found


def plan(inventory: Path, console: Console, as_json: bool = False) -> int:
    """Print the plan; 0 when nothing would change, 2 when something would, 1 when a server refuses or cannot be reached."""
    try:
        names = [host.name for host in servers_and_gateways(inventory)]
    except InventoryError as error:
        console.print(str(error), highlight=False, markup=False)
        return STOPPED
    outcome = play("site.yml", inventory, Console(stderr=True), check=True, lines=False)
    stopped = {failure.host: failure.message.rstrip() for failure in outcome.run.failures}
    if not outcome.ok and not stopped:
        console.print(f"✗ ansible-playbook ended with {outcome.returncode}; log: {outcome.log.relative_to(ROOT)}")
        return STOPPED
    told: dict[str, dict[str, Any]] = {
        name: {"changes": [asdict(step) for step in steps(outcome.run, name)], "stopped": stopped.get(name)}
        for name in names
    }
    if as_json:
        console.print_json(data=told)
    else:
        for name, host in told.items():
            print_host(name, host, console)
    if stopped:
        return STOPPED
    return CHANGES if any(host["changes"] for host in told.values()) else NOTHING


def print_host(name: str, host: dict[str, Any], console: Console) -> None:
    """The host, its layers, a line per change; last why it stops, if it does."""
    console.print(f"[bold]{name}[/bold]", highlight=False)
    layer = ""
    for change in host["changes"]:
        if change["layer"] != layer:
            layer = change["layer"]
            console.print(f"  {LAYERS.get(layer, layer)}", highlight=False)
        console.print(f"    {change['role']:<14} {change['text']}", highlight=False, markup=False, soft_wrap=True)
    if host["stopped"]:
        console.print(f"  stops here\n    {host['stopped']}", highlight=False, markup=False, soft_wrap=True)
    elif not host["changes"]:
        console.print("  nothing would change", highlight=False)
