"""A newer driver in the repository: no upgrade run touches a single NVIDIA package.

Three nets keep it away: apt's pin, dpkg's hold, and the blacklist of unattended-upgrades. Each is proven to hold alone.
"""

from __future__ import annotations

import re
import shlex

from tests.driver.servers import Server
from tests.fixtures.driver_packages.repository import ORIGIN, publish
from tests.fixtures.driver_packages.shapes import driver

NEWER = "535.902.01"
# apt's pins without the role's.
UNPINNED = "-o Dir::Etc::preferencesparts=/tmp/unpinned"
TAKE_PINS_AWAY = "mkdir -p /tmp/unpinned && cp /etc/apt/preferences.d/00-bedplate-test /tmp/unpinned/"
APT_CONFIG = f"""
Dir::Etc::preferencesparts "/tmp/unpinned";
Unattended-Upgrade::Origins-Pattern {{ "origin={ORIGIN}"; }};
"""


def nvidia_in(simulation: str) -> set[str]:
    """NVIDIA's packages that a simulated apt-get would install, remove or upgrade."""
    return set(re.findall(r"^(?:Inst|Remv) (\S*(?:nvidia|cuda)\S*)", simulation, re.MULTILINE))


def test_a_newer_driver_is_there_to_take(server: Server) -> None:
    publish(server.host, driver(NEWER))
    server.on(TAKE_PINS_AWAY)
    taken = nvidia_in(server.on(f"apt-get -s {UNPINNED} --ignore-hold dist-upgrade"))
    assert {"nvidia-kernel-dkms", "libcuda1", "nvidia-legacy-check"} <= taken


def test_no_upgrade_touches_a_driver_package(server: Server) -> None:
    for upgrade in ("upgrade", "dist-upgrade"):
        assert nvidia_in(server.on(f"apt-get -s {upgrade}")) == set()


def test_the_pin_alone_keeps_the_driver(server: Server) -> None:
    assert nvidia_in(server.on("apt-get -s --ignore-hold dist-upgrade")) == set()


def test_the_hold_alone_keeps_the_driver(server: Server) -> None:
    assert nvidia_in(server.on(f"apt-get -s {UNPINNED} dist-upgrade")) == set()


def test_the_blacklist_alone_keeps_unattended_upgrades_off_the_driver(server: Server) -> None:
    server.on("apt-get install -y -q --no-install-recommends unattended-upgrades")
    server.on(f"echo {shlex.quote(APT_CONFIG)} > /tmp/allow.conf")
    holds = " ".join(server.state().holds)
    server.on(f"apt-mark unhold {holds}")
    said = server.on("APT_CONFIG=/tmp/allow.conf unattended-upgrade --dry-run --debug")
    server.on(f"apt-mark hold {holds}")
    assert f"o={ORIGIN}" in said or f"origin={ORIGIN}" in said, said[:2000]
    will = re.findall(r"^Packages that will be upgraded:(.*)$", said, re.MULTILINE)
    assert will and not re.search("nvidia|cuda", " ".join(will)), said[-3000:]
