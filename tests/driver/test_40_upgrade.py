"""playbooks/upgrade_driver.yml changes the driver deliberately, and any failure brings the saved one back."""

from __future__ import annotations

import pytest

from tests.driver.conftest import OLD, OTHER
from tests.driver.servers import Server, explain, messages
from tests.fixtures.driver_packages.repository import publish, withdraw
from tests.fixtures.driver_packages.shapes import driver
from tests.fixtures.machine import ON_SERVER

FAILS_TO_BUILD, NEVER_LOADS = "535.903.01", "535.904.01"
WANTED = {"nvidia_driver_branch": "535", "nvidia_driver_flavour": "proprietary", "pytorch_variant": "auto"}
PROCESS = f"{ON_SERVER}/proc/4242"
USE = f"mkdir -p {PROCESS}/fd && echo train.py > {PROCESS}/comm && ln -s {ON_SERVER}/dev/nvidia0 {PROCESS}/fd/7"


def test_a_gpu_in_use_is_not_touched(server: Server) -> None:
    before = server.state()
    server.on(USE)
    outcome = server.upgrade(**WANTED)
    server.on(f"rm -r {PROCESS}")
    assert not outcome.ok
    assert "4242" in messages(outcome) and "train.py" in messages(outcome), explain(outcome)
    after = server.state()
    assert after.same_driver(before) and after.boot_id == before.boot_id


def test_check_mode_says_what_would_change_and_changes_nothing(server: Server) -> None:
    before = server.state()
    outcome = server.upgrade(check=True, **WANTED)
    assert outcome.ok, explain(outcome)
    assert OTHER in outcome.log.read_text()
    assert server.state() == before


def test_no_reboot_without_consent(server: Server) -> None:
    before = server.state()
    outcome = server.upgrade(nvidia_driver_reboot=False, **WANTED)
    assert not outcome.ok
    assert "nvidia_driver_reboot" in messages(outcome), explain(outcome)
    after = server.state()
    assert after.same_driver(before) and after.boot_id == before.boot_id


def test_470_becomes_535(server: Server) -> None:
    before = server.state()
    outcome = server.upgrade(**WANTED)
    assert outcome.ok, explain(outcome)
    state = server.state()
    assert state.boot_id != before.boot_id
    assert (state.loaded, state.user_space, state.broken) == (OTHER, OTHER, [])
    assert set(state.driver_packages) <= set(state.holds)
    assert state.receipt["nvidia_driver"]["version"] == OTHER
    assert any(f"/{OLD}" in path for path in state.kept) and any(f"/{OTHER}" in path for path in state.kept)
    again = server.infrastructure(**WANTED)
    assert again.ok and again.run.changed == 0, explain(again)


@pytest.mark.parametrize(("version", "fault"), [(FAILS_TO_BUILD, "build"), (NEVER_LOADS, "load")])
def test_a_driver_that_fails_brings_the_saved_one_back(server: Server, version: str, fault: str) -> None:
    before = server.state()
    publish(server.host, driver(version, fault))
    # The archive has superseded the old one: only the saved packages can bring it back.
    withdraw(server.host, OTHER)
    outcome = server.upgrade(nvidia_driver_version=version, pytorch_variant="auto")
    assert not outcome.ok
    assert OTHER in messages(outcome) and "BP15" in messages(outcome), explain(outcome)
    state = server.state()
    assert (state.loaded, state.user_space, state.broken) == (OTHER, OTHER, []), explain(outcome)
    assert state.packages == before.packages
    assert (state.holds, state.settings, state.dkms) == (before.holds, before.settings, before.dkms)
    assert state.receipt["nvidia_driver"] == before.receipt["nvidia_driver"]
    assert state.persistenced == "active"
    withdraw(server.host, version)
    publish(server.host, driver(OTHER))
