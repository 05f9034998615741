"""GPU servers for the driver tests: sandbox servers with a recorded GPU machine's hardware and small driver packages."""

from __future__ import annotations

import pytest

from ops.paths import WORK
from tests.driver.servers import Server, Suite
from tests.fixtures.driver_packages.repository import publish
from tests.fixtures.driver_packages.shapes import driver, foundation
from tests.fixtures.machine import stand_in

SUITE = Suite(WORK / "driver" / "inventory", "driver", 121, count=2)
# The kernel of the recorded machine, and drivers newer than any real one of their branch.
KERNEL, OLD, OTHER = "6.1.0-41-amd64", "470.900.02", "535.901.01"


@pytest.fixture(scope="session")
def bare_servers() -> list[Server]:
    """driver1 and driver2: two A100s each, as delivered. No driver, no headers; their repository has OLD and OTHER."""
    SUITE.sandbox("absent")
    SUITE.sandbox("present")
    for server in SUITE.servers():
        machine = stand_in(server.host, "no-driver", driver="installed")
        publish(server.host, [*foundation(KERNEL), *driver(OLD), *driver(OTHER)])
    # No locked PyTorch runs on a 470 driver; the tests with 535 let the resolver choose.
    variables = {"bedplate_machine": machine, "nvidia_driver_source": "distribution", "pytorch_variant": "cpu"}
    SUITE.settings(variables)
    return SUITE.servers()


@pytest.fixture(scope="session")
def server() -> Server:
    """driver1 as the tests before left it."""
    return SUITE.servers()[0]
