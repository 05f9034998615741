"""Debian 12's own drivers: 470 to 535, with real modules built by DKMS; a power cut and a failing build in between.

Alone: ./bedplate test --only driver_real (about 15 minutes)
"""

from __future__ import annotations

from tests.driver.servers import INFRASTRUCTURE, Server, explain, messages
from tests.driver.test_50_holds import nvidia_in

OLD, OTHER, NEWEST = "470.256.02", "535.261.03", "535.309.01"
MODULE = "nvidia-current"
BUILDING = "pgrep -x cc1 >/dev/null && echo building"
CONSENT = {"nvidia_driver_reboot": True}
# dkms reads /etc/dkms/<module>.conf over the module's own: its build then fails as one for a too new kernel does.
BREAK_BUILD = f"mkdir -p /etc/dkms && echo 'MAKE[0]=false' > /etc/dkms/{MODULE}.conf"


def modules(server: Server) -> str:
    """Versions of the modules DKMS has built, as modinfo reads them from the files."""
    return server.on(
        "for f in /lib/modules/*/updates/dkms/nvidia-*.ko; do /usr/sbin/modinfo -F version $f; done | sort -u",
        check=False,
    )


def test_470_is_killed_while_it_builds_and_a_plain_rerun_installs_it(bare_bookworm: Server) -> None:
    bookworm = bare_bookworm
    wanted = {"nvidia_driver_branch": "470", **CONSENT}
    building = bookworm.kill_when(
        lambda: "building" in bookworm.on(BUILDING, check=False), INFRASTRUCTURE, seconds=400, **wanted
    )
    assert building, "DKMS never began to build"
    bookworm.pull_the_plug()
    assert bookworm.state().broken, "dpkg was to be left half-configured"
    outcome = bookworm.infrastructure(**wanted)
    assert outcome.ok, explain(outcome)
    state = bookworm.state()
    assert (state.loaded, state.user_space, state.broken) == (OLD, OLD, [])
    assert modules(bookworm).split() == [OLD]
    assert set(state.driver_packages) <= set(state.holds)
    again = bookworm.infrastructure(**wanted)
    assert again.ok and again.run.changed == 0, explain(again)


def test_a_build_that_fails_brings_470_back(bookworm: Server) -> None:
    before = bookworm.state()
    bookworm.on(BREAK_BUILD)
    outcome = bookworm.upgrade(nvidia_driver_version=OTHER)
    bookworm.on(f"rm /etc/dkms/{MODULE}.conf")
    assert not outcome.ok
    assert "BP15" in messages(outcome) and OLD in messages(outcome), explain(outcome)
    state = bookworm.state()
    assert (state.loaded, state.user_space, state.broken) == (OLD, OLD, []), explain(outcome)
    assert (state.packages, state.holds) == (before.packages, before.holds)
    assert modules(bookworm).split() == [OLD]
    again = bookworm.infrastructure(nvidia_driver_branch="470")
    assert again.ok and again.run.changed == 0, explain(again)


def test_470_becomes_535(bookworm: Server) -> None:
    outcome = bookworm.upgrade(nvidia_driver_version=OTHER)
    assert outcome.ok, explain(outcome)
    state = bookworm.state()
    assert (state.loaded, state.user_space, state.broken) == (OTHER, OTHER, [])
    assert OTHER in modules(bookworm).split()
    assert set(state.driver_packages) <= set(state.holds)
    again = bookworm.infrastructure(nvidia_driver_version=OTHER)
    assert again.ok and again.run.changed == 0, explain(again)


def test_the_security_archive_s_newer_driver_is_not_taken(bookworm: Server) -> None:
    unpinned = "mkdir -p /tmp/none && apt-get -s -o Dir::Etc::preferencesparts=/tmp/none"
    offered = bookworm.on(f"{unpinned} --ignore-hold dist-upgrade")
    assert f"({NEWEST}" in offered and "nvidia-kernel-dkms" in nvidia_in(offered)
    assert nvidia_in(bookworm.on("apt-get -s dist-upgrade")) == set()
    assert nvidia_in(bookworm.on(f"{unpinned} dist-upgrade")) == set()
