"""A newer driver in the repository: no upgrade run touches a single NVIDIA package."""

from __future__ import annotations

import re

from ops.inventory import Host
from tests.driver.servers import NEWER, on, state_of
from tests.fixtures.driver_packages.repository import ORIGIN, publish
from tests.fixtures.driver_packages.shapes import driver

ALLOW = f'Unattended-Upgrade::Origins-Pattern {{ "origin={ORIGIN}"; }};'
DRY_RUN = "APT_CONFIG=/tmp/allow.conf unattended-upgrade --dry-run --debug"


def upgraded(simulation: str) -> set[str]:
    """Packages a simulated apt-get would install, remove or upgrade."""
    return set(re.findall(r"^(?:Inst|Remv) (\S+)", simulation, re.MULTILINE))


def test_dist_upgrade_touches_no_nvidia_package(server: Host) -> None:
    publish(server, driver(NEWER))
    free = upgraded(on(server, "apt-get -s --ignore-hold dist-upgrade"))
    assert "nvidia-kernel-dkms" in free, "without holds the newer driver is to be offered"
    assert not {name for name in upgraded(on(server, "apt-get -s dist-upgrade")) if re.search("nvidia|cuda", name)}
    assert not {name for name in upgraded(on(server, "apt-get -s upgrade")) if re.search("nvidia|cuda", name)}


def test_unattended_upgrades_touch_no_nvidia_package(server: Host) -> None:
    on(server, "apt-get install -y -q --no-install-recommends unattended-upgrades")
    on(server, "cat > /tmp/allow.conf", ALLOW)
    holds = " ".join(state_of(server).holds)
    # The blacklist on its own: somebody may lift the holds.
    on(server, f"apt-mark unhold {holds}")
    said = on(server, DRY_RUN)
    on(server, f"apt-mark hold {holds}")
    assert "Initial blacklist" in said and "nvidia" in said.split("Initial blacklist")[1].splitlines()[0], said[:2000]
    will = re.findall(r"^Packages that will be upgraded:(.*)$", said, re.MULTILINE)
    assert not re.search("nvidia|cuda", " ".join(will)), will
