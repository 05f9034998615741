"""Fault: the power goes in the middle of a driver change. Promise: the same command, given again, ends it."""

from __future__ import annotations

from tests.driver.conftest import OTHER, SUITE
from tests.driver.servers import UPGRADE, Server, explain
from tests.driver.test_20_interrupted import BUILDING

WANTED = {"nvidia_driver_branch": "535", "nvidia_driver_flavour": "proprietary", "nvidia_driver_reboot": True}


def test_a_change_cut_off_while_dkms_builds_is_finished_by_the_same_command(server: Server) -> None:
    victim = SUITE.servers()[1]
    victim.on("mkdir -p /etc/bedplate-test && echo 120 > /etc/bedplate-test/dkms-seconds")
    building = victim.kill_when(lambda: "building" in victim.on(BUILDING, check=False), UPGRADE, **WANTED)
    assert building, "DKMS never began to build"
    victim.pull_the_plug()
    assert victim.state().broken, "dpkg was to be left half-configured"
    victim.on("rm -r /etc/bedplate-test")
    outcome = victim.upgrade(**WANTED)
    assert outcome.ok, explain(outcome)
    state, clean = victim.state(), server.state()
    assert (state.loaded, state.user_space, state.broken) == (OTHER, OTHER, [])
    assert (state.packages, state.holds, state.dkms) == (clean.packages, clean.holds, clean.dkms)
