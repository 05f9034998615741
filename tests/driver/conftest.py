"""GPU servers for the driver tests: sandbox servers with a recorded GPU machine's hardware and small driver packages."""

from __future__ import annotations

import pytest

from ops.inventory import Host, hosts
from tests.driver.servers import INVENTORY, KERNEL, OLD, OTHER, gpu_server, sandbox
from tests.fixtures.driver_packages.shapes import driver, foundation


@pytest.fixture(scope="session")
def bare_server() -> Host:
    """driver1: two A100s, as delivered. No driver, no headers; its repository has the drivers OLD and OTHER."""
    assert sandbox("absent").ok
    assert sandbox("present").ok
    return gpu_server(hosts(INVENTORY)[0], [*foundation(KERNEL), *driver(OLD), *driver(OTHER)])


@pytest.fixture(scope="session")
def server() -> Host:
    """driver1 as the tests before left it."""
    return hosts(INVENTORY)[0]


@pytest.fixture(scope="session")
def other_bare_server() -> Host:
    """driver2, as delivered."""
    return gpu_server(hosts(INVENTORY)[1], [*foundation(KERNEL), *driver(OLD), *driver(OTHER)])
