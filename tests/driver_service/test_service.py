"""A server that answers gets another driver: drained, rebooted, every layer proven, answering again; or the old driver back.

Driver packages are small stand-ins and PyTorch is the CPU build in the decided one's place; all else is real.
Alone: ./bedplate test --only driver_service
"""

from __future__ import annotations

import pytest

from ops.paths import WORK
from ops.service import service_of
from tests.driver.conftest import KERNEL, OTHER
from tests.driver.servers import Server, Suite, explain, messages
from tests.fixtures.driver_packages.repository import publish
from tests.fixtures.driver_packages.shapes import driver, foundation
from tests.fixtures.machine import stand_in

SUITE = Suite(WORK / "driver_service" / "inventory", "serving", 127, count=1)
NEWER, NEVER_LOADS = "535.902.01", "535.904.01"
QUESTION = "What is 2 + 2?"


@pytest.fixture(scope="session")
def bare_server() -> Server:
    """Two A100s, as delivered, with the driver OTHER to install."""
    SUITE.sandbox("absent")
    SUITE.sandbox("present")
    (server,) = SUITE.servers()
    machine = stand_in(server.host, "no-driver", driver="installed")
    publish(server.host, [*foundation(KERNEL), *driver(OTHER)])
    SUITE.settings(
        {"bedplate_machine": machine, "nvidia_driver_source": "distribution", "pytorch_stand_in_variant": "cpu"}
    )
    return SUITE.servers()[0]


@pytest.fixture
def server() -> Server:
    """The same as the tests before left it."""
    return SUITE.servers()[0]


def answer(server: Server) -> str:
    """What the service says."""
    return service_of(server.host, SUITE.inventory / "secrets").chat(QUESTION)[1]


def test_a_bare_gpu_server_gets_its_driver_and_answers(bare_server: Server) -> None:
    outcome = bare_server.play("site.yml", nvidia_driver_reboot=True)
    assert outcome.ok, explain(outcome)
    state = bare_server.state()
    assert state.loaded == OTHER
    assert state.receipt["cuda_match"]["variant"].startswith("cu")
    assert answer(bare_server)


def test_after_the_upgrade_the_service_answers_on_the_new_driver(server: Server) -> None:
    before, said = server.state(), answer(server)
    publish(server.host, driver(NEWER))
    outcome = server.upgrade(nvidia_driver_version=NEWER)
    assert outcome.ok, explain(outcome)
    state = server.state()
    assert (state.loaded, state.user_space, state.broken) == (NEWER, NEWER, [])
    assert state.boot_id != before.boot_id
    assert state.receipt["nvidia_driver"]["version"] == NEWER
    assert answer(server) == said


def test_a_driver_that_never_loads_leaves_the_service_answering_on_the_old_one(server: Server) -> None:
    before, said = server.state(), answer(server)
    publish(server.host, driver(NEVER_LOADS, "load"))
    outcome = server.upgrade(nvidia_driver_version=NEVER_LOADS)
    assert not outcome.ok
    assert "BP156" in messages(outcome) and NEWER in messages(outcome), explain(outcome)
    state = server.state()
    assert (state.loaded, state.packages, state.holds) == (NEWER, before.packages, before.holds)
    assert answer(server) == said
    again = server.play("site.yml", nvidia_driver_version=NEWER)
    assert again.ok and again.run.changed == 0, explain(again)
