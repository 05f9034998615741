"""A model from a Hub replaces the tutor, and the tutor comes back. The Hub is a stand-in; client and protocol are real."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

import pytest

from ops.inventory import Host
from ops.paths import TUTOR
from ops.service import Service
from tests.fixtures.hub.server import Hub, Repository
from tests.site.conftest import INVENTORY, Play, explain

APPLICATION = "playbooks/application.yml"
LOCK = INVENTORY / "hub-test.lock"


@pytest.fixture(scope="module")
def hub(server: Host) -> Iterator[Hub]:
    """The tutor's files as the repository acme/tutor, whole and as acme/damaged, where the server reaches this machine."""
    LOCK.unlink(missing_ok=True)
    controller = str(ipaddress.ip_interface(f"{server.address}/24").network[1])
    repositories = {"acme/tutor": Repository(TUTOR), "acme/damaged": Repository(TUTOR, damaged={"model.safetensors"})}
    with Hub(repositories, (controller, 0)) as running:
        yield running


def asked(hub: Hub, repo: str) -> dict[str, object]:
    """Variables that take the model from the Hub, with a lock of this test's own."""
    models = [{"name": "tutor", "source": f"hf://{repo}@main", "task": "both"}]
    return {"hf_endpoint": hub.url, "model_list": models, "model_lock": str(LOCK)}


def test_wrong_bytes_are_refused_and_the_old_model_serves_on(hub: Hub, site: Play, service: Service) -> None:
    outcome = site(APPLICATION, **asked(hub, "acme/damaged"))
    assert not outcome.ok
    assert "BP511" in outcome.run.failures[0].message, explain(outcome)
    assert service.request("/health/ready") == {"status": "ready"}


def test_a_model_is_fetched_proven_and_served(hub: Hub, site: Play, service: Service) -> None:
    outcome = site(APPLICATION, **asked(hub, "acme/tutor"))
    assert outcome.ok, explain(outcome)
    assert service.chat("What is Bedplate?")[0] == "tutor"
    fetched = len(hub.served)
    assert hub.repositories["acme/tutor"].commit in LOCK.read_text(), "the first run locks what it fetches"
    again = site(APPLICATION, **asked(hub, "acme/tutor"))
    assert again.ok and again.run.changed == 0, explain(again)
    assert len(hub.served) == fetched, "a second run asks the Hub for nothing"


def test_the_model_of_before_comes_back_without_a_copy(hub: Hub, site: Play, service: Service) -> None:
    outcome = site(APPLICATION)
    assert outcome.ok, explain(outcome)
    copied = [task.name for task in outcome.run.tasks if task.name == "Copy what differs"]
    assert copied == []
    assert service.chat("What is Bedplate?")[0] == "tutor"
