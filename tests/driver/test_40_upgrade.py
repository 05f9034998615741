"""playbooks/upgrade_driver.yml changes the driver deliberately, and any failure brings the saved one back."""

from __future__ import annotations

import pytest

from ops.inventory import Host
from tests.driver.servers import (
    FAILS_TO_BUILD,
    NEVER_LOADS,
    OLD,
    OTHER,
    explain,
    infrastructure,
    messages,
    on,
    run_playbook,
    state_of,
)
from tests.fixtures.driver_packages.repository import publish, withdraw
from tests.fixtures.driver_packages.shapes import driver
from tests.fixtures.machine import ON_SERVER

UPGRADE = "playbooks/upgrade_driver.yml"
WANTED = {"nvidia_driver_branch": "535", "nvidia_driver_flavour": "proprietary"}
USE = f"mkdir -p {ON_SERVER}/proc/4242/fd && echo train.py > {ON_SERVER}/proc/4242/comm && ln -s {ON_SERVER}/dev/nvidia0 {ON_SERVER}/proc/4242/fd/7"


def test_a_gpu_in_use_is_not_touched(server: Host) -> None:
    before = state_of(server)
    on(server, USE)
    outcome = run_playbook(UPGRADE, server, nvidia_driver_reboot=True, **WANTED)
    on(server, f"rm -r {ON_SERVER}/proc/4242")
    assert not outcome.ok
    assert "4242" in messages(outcome) and "train.py" in messages(outcome), explain(outcome)
    assert state_of(server) == before


def test_no_reboot_without_consent(server: Host) -> None:
    before = state_of(server)
    outcome = run_playbook(UPGRADE, server, **WANTED)
    assert not outcome.ok
    assert "nvidia_driver_reboot" in messages(outcome), explain(outcome)
    assert state_of(server).same_driver(before)


def test_470_becomes_535(server: Host) -> None:
    before = state_of(server)
    outcome = run_playbook(UPGRADE, server, nvidia_driver_reboot=True, **WANTED)
    assert outcome.ok, explain(outcome)
    state = state_of(server)
    assert state.boot_id != before.boot_id
    assert (state.loaded, state.user_space, state.broken) == (OTHER, OTHER, [])
    assert set(state.driver_packages) <= set(state.holds)
    assert state.receipt["nvidia_driver"]["version"] == OTHER
    assert any(f"/{OLD}" in path for path in state.kept) and any(f"/{OTHER}" in path for path in state.kept)
    again = infrastructure(server, **WANTED)
    assert again.ok and again.run.changed == 0, explain(again)


@pytest.mark.parametrize(("version", "fault"), [(FAILS_TO_BUILD, "build"), (NEVER_LOADS, "load")])
def test_a_driver_that_fails_brings_the_saved_one_back(server: Host, version: str, fault: str) -> None:
    before = state_of(server)
    publish(server, driver(version, fault))
    # The archive has superseded the old one: only the saved packages can bring it back.
    withdraw(server, OTHER)
    outcome = run_playbook(UPGRADE, server, nvidia_driver_reboot=True, nvidia_driver_version=version)
    assert not outcome.ok
    assert OTHER in messages(outcome) and "BP15" in messages(outcome), explain(outcome)
    state = state_of(server)
    assert (state.loaded, state.user_space, state.broken) == (OTHER, OTHER, []), explain(outcome)
    assert state.packages == before.packages
    assert (state.holds, state.settings, state.dkms) == (before.holds, before.settings, before.dkms)
    assert state.receipt["nvidia_driver"] == before.receipt["nvidia_driver"]
    assert state.persistenced == "active"
    withdraw(server, version)
    publish(server, driver(OTHER))
    again = infrastructure(server, **WANTED)
    assert again.ok and again.run.changed == 0, explain(again)
