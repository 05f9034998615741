"""How long provisioning takes, and how much of it is ours.

    .venv/bin/python -m bench.provision

On sandbox servers of its own: a cold run from bare, no-change runs, the same on three servers, and the raw lower bound: the same
apt, conda and uv installs done by hand in one shell over SSH. Machines are noisy: read the ratios. Needs root.
Writes bench/results/provision.json.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from ops.inventory import Host, hosts
from ops.paths import ROOT, WORK
from ops.play import Outcome, play
from ops.service_env import LOCKS

INVENTORY = WORK / "bench" / "inventory"
SANDBOX = {"sandbox_inventory": str(INVENTORY), "sandbox_prefix": "bench", "sandbox_first_address": 51}
RESULT = ROOT / "bench" / "results" / "provision.json"
REPEATS = 3
CONSOLE = Console()


def sandbox(servers: int, state: str = "present") -> None:
    """Make or remove the benchmark's servers."""
    outcome = play(
        "playbooks/sandbox.yml", None, CONSOLE, extra={**SANDBOX, "sandbox_servers": servers, "sandbox_state": state}
    )
    if not outcome.ok:
        sys.exit(outcome.log.read_text()[-3000:])


def site() -> Outcome:
    """One run of site.yml against the benchmark's servers; stops the benchmark if it fails."""
    outcome = play("site.yml", INVENTORY, CONSOLE)
    if not outcome.ok:
        sys.exit(outcome.log.read_text()[-3000:])
    return outcome


def summary(outcome: Outcome) -> dict[str, Any]:
    """Seconds, tasks and module calls, in all and per role (profile_tasks' sums)."""
    roles = {
        f"{layer}/{role}": {
            "seconds": round(sum(task.seconds for task in tasks), 1),
            "tasks": len(tasks),
            "module_calls": sum(task.module_calls for task in tasks),
        }
        for layer, role, tasks in outcome.run.by_role()
    }
    return {
        "seconds": round(outcome.seconds, 1),
        "tasks": len(outcome.run.tasks),
        "module_calls": sum(task.module_calls for task in outcome.run.tasks),
        "changed": outcome.run.changed,
        "roles": roles,
    }


def raw_install(host: Host) -> float:
    """Seconds that apt, conda and uv alone take on a bare server, in one shell."""
    settings: dict[str, Any] = {}
    for path in INVENTORY.glob("group_vars/all/*.yml"):
        settings.update(yaml.safe_load(path.read_text()) or {})
    with host.connection() as connection:
        for path in [ROOT / "bench" / "raw_install.sh", *LOCKS, ROOT / "roles/pytorch/files/locks/uv.txt"]:
            connection.put(str(path), f"/tmp/{path.name}")
        environment = {
            "INSTALLER_URL": settings["conda_installer_urls"][0],
            "INSTALLER_SHA256": settings["conda_installer_sha256"],
            "CHANNEL": settings["conda_channels"][0],
            "LOCKS": " ".join(path.name for path in LOCKS),
        }
        words = " ".join(f"{name}='{value}'" for name, value in environment.items())
        started = time.monotonic()
        connection.run(f"sudo env {words} sh /tmp/raw_install.sh", hide=True)
        return time.monotonic() - started


def main() -> None:
    """Measure everything and write the result."""
    sandbox(1, "absent")
    sandbox(1)
    raw = raw_install(hosts(INVENTORY)[0])
    CONSOLE.print(f"raw lower bound: {raw:.1f} s")

    sandbox(1, "absent")
    sandbox(1)
    # Cold means the page too: Node, its packages and the build.
    for folder in WORK.glob("web*"):
        shutil.rmtree(folder)
    cold = site()
    unchanged = [site() for _ in range(REPEATS)]

    sandbox(3)
    cold_two_more = site()
    unchanged_three = [site() for _ in range(REPEATS)]
    sandbox(3, "absent")

    one = statistics.median(outcome.seconds for outcome in unchanged)
    three = statistics.median(outcome.seconds for outcome in unchanged_three)
    result = {
        "command": ".venv/bin/python -m bench.provision",
        "date": time.strftime("%Y-%m-%d"),
        "cores": os.cpu_count(),
        "raw_lower_bound_seconds": round(raw, 1),
        "cold": summary(cold),
        "cold_over_raw": round(cold.seconds / raw, 2),
        "no_change": summary(min(unchanged, key=lambda outcome: abs(outcome.seconds - one))),
        "no_change_seconds": [round(outcome.seconds, 1) for outcome in unchanged],
        "two_more_servers_cold_seconds": round(cold_two_more.seconds, 1),
        "no_change_three_servers_seconds": [round(outcome.seconds, 1) for outcome in unchanged_three],
        "three_servers_over_one": round(three / one, 2),
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    CONSOLE.print_json(data=result)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    main()
