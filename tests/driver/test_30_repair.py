"""Trouble with packages: a dpkg left half-done is repaired, another apt is waited for, and an endless one is reported."""

from __future__ import annotations

import time

from tests.driver.servers import Server, explain, messages

WANTED = {"nvidia_driver_branch": "470"}
HALF_DONE = "dpkg --force-depends --unpack /var/lib/bedplate/driver/470*/nvidia-tesla-470-smi_*.deb"
# As apt and dpkg lock: with fcntl. Ends by itself.
HOLD_LOCK = """systemd-run -q --unit=other-apt python3 -c '
import fcntl, time
lock = open("/var/lib/dpkg/lock-frontend", "w")
fcntl.lockf(lock, fcntl.LOCK_EX)
time.sleep({seconds})'
sleep 1"""


def test_a_lock_that_is_never_free_is_reported(server: Server) -> None:
    server.on(HALF_DONE)
    server.on(HOLD_LOCK.format(seconds=120))
    outcome = server.infrastructure(nvidia_driver_apt_wait=2, **WANTED)
    server.on("systemctl stop other-apt")
    assert not outcome.ok
    assert "BP160" in messages(outcome) and "nvidia_driver_apt_wait" in messages(outcome), explain(outcome)


def test_half_configured_packages_are_repaired_once_the_other_apt_is_done(server: Server) -> None:
    assert server.state().broken == ["nvidia-tesla-470-smi"]
    server.on(HOLD_LOCK.format(seconds=12))
    started = time.monotonic()
    outcome = server.infrastructure(**WANTED)
    assert outcome.ok, explain(outcome)
    assert time.monotonic() - started > 8, "nobody waited for the lock"
    state = server.state()
    assert state.broken == [] and set(state.driver_packages) <= set(state.holds)
