"""Fault: the power goes while DKMS builds. Promise: a plain re-run repairs dpkg and ends as a run that was never interrupted.

driver2 is interrupted; driver1 is what it must come to look like (test_10_install.py made it).
"""

from __future__ import annotations

from ops.inventory import Host
from tests.driver.servers import OLD, explain, infrastructure, kill_when, on, pull_the_plug, state_of

WANTED = {"nvidia_driver_branch": "470", "nvidia_driver_reboot": True}
BUILDING = "pgrep -f 'dkms install' >/dev/null && echo building"


def test_killed_in_mid_install_then_rerun_ends_like_a_clean_run(server: Host, other_bare_server: Host) -> None:
    victim = other_bare_server
    on(victim, "mkdir -p /etc/bedplate-test && echo 120 > /etc/bedplate-test/dkms-seconds")
    killed = kill_when(
        lambda: "building" in on(victim, BUILDING, check=False), "playbooks/infrastructure.yml", victim, **WANTED
    )
    assert killed, "DKMS never began to build"
    pull_the_plug(victim)
    assert state_of(victim).broken, "dpkg was to be left half-configured"
    on(victim, "rm -r /etc/bedplate-test")
    outcome = infrastructure(victim, **WANTED)
    assert outcome.ok, explain(outcome)
    state = state_of(victim)
    assert state.loaded == OLD
    clean = state_of(server)
    assert state.packages == clean.packages
    assert (state.broken, state.holds, state.kept) == ([], clean.holds, clean.kept)
    assert (state.settings, state.modprobe, state.dkms) == (clean.settings, clean.modprobe, clean.dkms)
    assert state.receipt["nvidia_driver"] == clean.receipt["nvidia_driver"]
    again = infrastructure(victim, **WANTED)
    assert again.ok and again.run.changed == 0, explain(again)
