"""Fault: the power goes while DKMS builds. Promise: a plain re-run repairs dpkg and ends as a run that was never interrupted.

driver2 is interrupted; driver1 is what it must come to look like (test_10_install.py made it).
"""

from __future__ import annotations

from tests.driver.conftest import OLD, SUITE
from tests.driver.servers import INFRASTRUCTURE, Server, explain

WANTED = {"nvidia_driver_branch": "470", "nvidia_driver_reboot": True}
BUILDING = "pgrep -f '[d]kms install' >/dev/null && echo building"


def test_killed_in_mid_install_then_rerun_ends_like_a_clean_run(server: Server) -> None:
    victim = SUITE.servers()[1]
    victim.on("mkdir -p /etc/bedplate-test && echo 120 > /etc/bedplate-test/dkms-seconds")
    building = victim.kill_when(lambda: "building" in victim.on(BUILDING, check=False), INFRASTRUCTURE, **WANTED)
    assert building, "DKMS never began to build"
    victim.pull_the_plug()
    assert victim.state().broken, "dpkg was to be left half-configured"
    victim.on("rm -r /etc/bedplate-test")
    outcome = victim.infrastructure(**WANTED)
    assert outcome.ok, explain(outcome)
    state = victim.state()
    assert state.loaded == OLD
    clean = server.state()
    assert state.packages == clean.packages
    assert (state.broken, state.holds, state.kept) == ([], clean.holds, clean.kept)
    assert (state.settings, state.modprobe, state.dkms) == (clean.settings, clean.modprobe, clean.dkms)
    assert state.receipt["nvidia_driver"] == clean.receipt["nvidia_driver"]
