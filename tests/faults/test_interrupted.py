"""Fault: ansible-playbook is killed (kill -9) in the middle. Promise: a plain re-run ends in the same state as a clean run.

Alone: ./bedplate test --only faults
"""

from __future__ import annotations

import pytest

from ops.inventory import Host, hosts
from ops.play import play
from tests.faults.conftest import INVENTORY, kill_site_at, sandbox, state_of
from tests.site.conftest import CONSOLE, explain

# The task of each role that works longest on a first run, and how many seconds into it the kill comes.
MOMENTS = {
    "conda: installing": ("Run the installer", 1.5),
    "conda: making an environment": ("Make the prefix with conda", 1.5),
    "torch": ("Install the locked wheels with uv", 1.5),
    "model": ("bedplate_tree : Copy what differs", 0.3),
    "inference": ("inference : Start the service", 1.5),
}


@pytest.fixture(scope="module")
def clean_state() -> list[str]:
    """A server provisioned without interruption, fault1."""
    assert sandbox(2, "absent").ok
    assert sandbox(2).ok
    outcome = play("site.yml", INVENTORY, CONSOLE, limit="fault1")
    assert outcome.ok, explain(outcome)
    return state_of(hosts(INVENTORY)[0])


@pytest.fixture
def victim() -> Host:
    """fault2, bare at first and then ever further on."""
    return hosts(INVENTORY)[1]


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_run_is_killed_in_the_middle(clean_state: list[str], victim: Host, moment: str) -> None:
    assert kill_site_at(victim.name, *MOMENTS[moment]), f"no task {MOMENTS[moment][0]} was started"


def test_a_plain_rerun_ends_like_a_clean_run(clean_state: list[str], victim: Host) -> None:
    outcome = play("site.yml", INVENTORY, CONSOLE)
    assert outcome.ok, explain(outcome)
    assert state_of(victim) == clean_state
    again = play("site.yml", INVENTORY, CONSOLE)
    assert again.ok and again.run.changed == 0, explain(again)
