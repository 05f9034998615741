"""Servers for Debian's real driver packages: their DKMS builds for Debian's kernel; only the GPUs and the loading are stand-ins."""

from __future__ import annotations

import re

import pytest

from ops.paths import WORK
from tests.driver.servers import Server, Suite
from tests.fixtures.machine import stand_in

BOOKWORM = Suite(WORK / "driver_real" / "bookworm", "real-bookworm-", 125, count=1, release="bookworm")
TRIXIE = Suite(WORK / "driver_real" / "trixie", "real-trixie-", 126, count=1, release="trixie")


def gpu_server(suite: Suite, headers: str) -> Server:
    """A bare server with two A100s whose running kernel is the newest of which Debian has such headers."""
    suite.sandbox("absent")
    suite.sandbox("present")
    (server,) = suite.servers()
    server.on("apt-get update -q")
    kernels = re.findall(
        r"^linux-headers-(\S+) ", server.on(f"apt-cache search --names-only '{headers}'"), re.MULTILINE
    )
    kernel = max(kernels, key=lambda name: [int(part) for part in re.findall(r"\d+", name)])
    machine = stand_in(server.host, "no-driver", driver="installed", kernel=kernel)
    # The real nvidia-persistenced talks to a real GPU, and no locked PyTorch runs on 470.
    without = {"nvidia_driver_persistenced": False, "pytorch_variant": "cpu"}
    suite.settings({"bedplate_machine": machine, "nvidia_driver_source": "distribution", **without})
    return suite.servers()[0]


@pytest.fixture(scope="session")
def bare_bookworm() -> Server:
    """Debian 12, as delivered."""
    return gpu_server(BOOKWORM, r"^linux-headers-6\.1\.0-[0-9]+-amd64$")


@pytest.fixture(scope="session")
def bookworm() -> Server:
    """The same as the tests before left it."""
    return BOOKWORM.servers()[0]


@pytest.fixture(scope="session")
def bare_trixie() -> Server:
    """Debian 13, as delivered, on a kernel for which its driver 550.163.01-2 builds: it does not for 6.12.107 and later."""
    return gpu_server(TRIXIE, r"^linux-headers-6\.12\.[0-9][0-9]\+deb13-amd64$")


@pytest.fixture(scope="session")
def trixie() -> Server:
    """The same as the tests before left it."""
    return TRIXIE.servers()[0]
