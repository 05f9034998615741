"""A model from a Hub, with a LoRA adapter, replaces the tutor, and the tutor comes back. The Hub is a stand-in; client and protocol are real."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

import pytest

from ops.inventory import Host
from ops.paths import TUTOR
from ops.service import Service
from tests.fixtures.adapter import write_adapter
from tests.fixtures.hub.server import Hub, Repository
from tests.site.conftest import INVENTORY, Play, explain

APPLICATION = "playbooks/application.yml"
LOCK = INVENTORY / "hub-test.lock"


@pytest.fixture(scope="module")
def hub(server: Host, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """The tutor's files as acme/tutor, whole and as acme/damaged, and an adapter for it, where the server reaches this machine."""
    LOCK.unlink(missing_ok=True)
    controller = str(ipaddress.ip_interface(f"{server.address}/24").network[1])
    repositories = {"acme/tutor": Repository(TUTOR), "acme/damaged": Repository(TUTOR, damaged={"model.safetensors"})}
    repositories["acme/poet"] = Repository(write_adapter(tmp_path_factory.mktemp("poet"), TUTOR))
    with Hub(repositories, (controller, 0)) as running:
        yield running


def asked(hub: Hub, repo: str) -> dict[str, object]:
    """Variables that take the model from the Hub, with a lock of this test's own."""
    adapters = {"poet": "hf://acme/poet@main"}
    models = [{"name": "tutor", "source": f"hf://{repo}@main", "task": "both", "adapters": adapters}]
    return {"hf_endpoint": hub.url, "model_list": models, "model_lock": str(LOCK)}


def said_by_poet(service: Service) -> str:
    """The adapter's answer to the same question."""
    asked = [{"role": "user", "content": "What is Bedplate?"}]
    body = {"model": "poet", "messages": asked, "temperature": 0, "max_tokens": 16}
    answer: str = service.request("/v1/chat/completions", body)["choices"][0]["message"]["content"]
    return answer


def test_wrong_bytes_are_refused_and_the_old_model_serves_on(hub: Hub, site: Play, service: Service) -> None:
    outcome = site(APPLICATION, **asked(hub, "acme/damaged"))
    assert not outcome.ok
    assert "BP511" in outcome.run.failures[0].message, explain(outcome)
    assert service.request("/health/ready") == {"status": "ready"}


def test_a_model_is_fetched_proven_and_served(hub: Hub, site: Play, service: Service) -> None:
    outcome = site(APPLICATION, **asked(hub, "acme/tutor"))
    assert outcome.ok, explain(outcome)
    model, answer = service.chat("What is Bedplate?")
    assert model == "tutor"
    assert said_by_poet(service) != answer
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
