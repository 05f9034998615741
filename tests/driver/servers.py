"""Servers for the driver tests: what they are asked and what is done to them."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from ops.inventory import Host, hosts
from ops.paths import ROOT, VENV_BIN
from ops.play import Outcome, play
from tests.driver.state import STATE, State

CONSOLE = Console(stderr=True)
INFRASTRUCTURE, UPGRADE = "playbooks/infrastructure.yml", "playbooks/upgrade_driver.yml"


@dataclass(frozen=True)
class Suite:
    """Sandbox servers of one Debian release in an inventory of their own."""

    inventory: Path
    prefix: str
    first_address: int
    count: int
    release: str = "bookworm"

    def sandbox(self, state: str) -> None:
        """Make (present) or remove (absent) the servers; a stopped one is started."""
        extra = {
            "sandbox_inventory": str(self.inventory),
            "sandbox_prefix": self.prefix,
            "sandbox_first_address": self.first_address,
            "sandbox_servers": self.count,
            "sandbox_suite": self.release,
            "sandbox_state": state,
        }
        outcome = play("playbooks/sandbox.yml", None, CONSOLE, extra=extra)
        assert outcome.ok, explain(outcome)

    def servers(self) -> list[Server]:
        """The servers, by number."""
        return [Server(self, host) for host in hosts(self.inventory)]

    def settings(self, variables: dict[str, Any]) -> None:
        """Variables of all the servers, in the inventory."""
        (self.inventory / "group_vars" / "all" / "driver.yml").write_text(yaml.safe_dump(variables))


@dataclass(frozen=True)
class Server:
    """One of them."""

    suite: Suite
    host: Host

    def on(self, command: str, check: bool = True, seconds: int = 180) -> str:
        """A shell command as root; its output, stdout and stderr."""
        with self.host.connection() as connection:
            done = connection.run(f"sudo sh -c {shlex.quote(command)} 2>&1", hide=True, warn=not check, timeout=seconds)
        return str(done.stdout)

    def state(self) -> State:
        """Its driver, by its own account."""
        return State(**json.loads(self.on(f"python3 -c {shlex.quote(STATE)}")))

    def play(self, playbook: str, check: bool = False, **variables: Any) -> Outcome:
        """A playbook on this server alone, with variables of the driver's."""
        return play(playbook, self.suite.inventory, CONSOLE, check=check, limit=self.host.name, extra=variables)

    def infrastructure(self, check: bool = False, **variables: Any) -> Outcome:
        """playbooks/infrastructure.yml"""
        return self.play(INFRASTRUCTURE, check, **variables)

    def upgrade(self, check: bool = False, **variables: Any) -> Outcome:
        """playbooks/upgrade_driver.yml with the consent to reboot."""
        return self.play(UPGRADE, check, **{"nvidia_driver_reboot": True, **variables})

    def kill_when(self, reached: Callable[[], bool], playbook: str, seconds: float = 60, **variables: Any) -> bool:
        """Run a playbook, kill -9 the whole of ansible-playbook once the moment has come; False if it did not come."""
        argv = [
            str(VENV_BIN / "ansible-playbook"),
            playbook,
            "-i",
            str(self.suite.inventory),
            "--limit",
            self.host.name,
        ]
        with subprocess.Popen(
            [*argv, "-e", json.dumps(variables)],
            cwd=ROOT,
            env=dict(os.environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        ) as process:
            until, there = time.monotonic() + seconds, False
            while process.poll() is None and time.monotonic() < until and not there:
                time.sleep(0.5)
                there = reached()
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
        return there

    def pull_the_plug(self) -> None:
        """Stop it hard and start it again."""
        script = ROOT / "playbooks/files/sandbox.sh"
        subprocess.run([script, "stop", self.host.name], check=True, stdout=subprocess.DEVNULL)
        self.suite.sandbox("present")


def messages(outcome: Outcome) -> str:
    """What the failed tasks said."""
    return "\n".join(failure.message for failure in outcome.run.failures)


def explain(outcome: Outcome) -> str:
    """What to read when a run did not end as expected."""
    changed = [f"{task.role}: {task.name}" for task in outcome.run.tasks if "changed" in task.results.values()]
    return f"{messages(outcome)}\nchanged: {changed}\nlog: {outcome.log}"
