"""Bare servers for the tests of the whole site, in an inventory of their own beside a person's sandbox."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from ops.inventory import Host, hosts
from ops.play import Outcome, play
from ops.service import Service, service_of

INVENTORY = Path(
    os.environ.get("BEDPLATE_TEST_INVENTORY", Path(__file__).resolve().parents[2] / ".bedplate/test/inventory")
)
SANDBOX = {"sandbox_inventory": str(INVENTORY), "sandbox_prefix": "proof", "sandbox_first_address": 31}
# A download that takes longer than a test holds it.
OPTIONAL = {
    "nginx_downloads": [{"name": "models", "folder": "/opt/bedplate/models"}],
    "nginx_downloads_connections": 2,
    "nginx_downloads_rate": "20k",
}
CONSOLE = Console(stderr=True)

Play = Callable[..., Outcome]


def sandbox(servers: int, state: str = "present") -> Outcome:
    """Make or remove this suite's servers."""
    return play(
        "playbooks/sandbox.yml", None, CONSOLE, extra={**SANDBOX, "sandbox_servers": servers, "sandbox_state": state}
    )


@pytest.fixture(scope="session")
def site() -> Play:
    """Run a playbook against the suite's servers: site("site.yml", check=True, limit="proof1", nginx_https_port=8443)."""

    def run(playbook: str, *, check: bool = False, inventory: Path = INVENTORY, **extra: Any) -> Outcome:
        return play(playbook, inventory, CONSOLE, check=check, extra=extra)

    return run


@pytest.fixture(scope="session")
def bare_server(site: Play) -> Host:
    """proof1, as bare as a server can be when the session starts."""
    assert sandbox(1, "absent").ok
    made = sandbox(1)
    assert made.ok, made.log.read_text()[-4000:]
    # What is off by default is on here, so that the layer tests see it.
    (INVENTORY / "group_vars" / "all" / "optional.yml").write_text(yaml.safe_dump(OPTIONAL))
    return hosts(INVENTORY)[0]


@pytest.fixture(scope="session")
def server() -> Host:
    """proof1 as the tests before left it."""
    return hosts(INVENTORY)[0]


@pytest.fixture
def service(server: Host) -> Service:
    """The service on proof1, with its certificate and key."""
    return service_of(server, INVENTORY / "secrets")


def explain(outcome: Outcome) -> str:
    """What to read when a run did not end as expected."""
    said = "\n".join(f"{failure.host}: {failure.task}: {failure.message}" for failure in outcome.run.failures)
    changed = [f"{task.role}: {task.name}" for task in outcome.run.tasks if "changed" in task.results.values()]
    return f"{said}\nchanged: {changed}\nlog: {outcome.log}"
