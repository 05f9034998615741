"""A served model changes its revision: one that does not become ready is taken back, a good one can be left again, damage is repaired.

Alone: ./bedplate test --only models
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from ops.inventory import Host
from ops.model import OK, lock, repair, show
from ops.paths import TUTOR
from ops.play import Outcome, play
from ops.rollback import rollback
from ops.service import RECEIPT, Service, first_question, service_of
from tests.fixtures.hub.server import Hub, Repository
from tests.models.conftest import INVENTORY, said
from tests.site.conftest import CONSOLE, explain

SOURCE = "hf://acme/tutor@main"
SETTINGS = INVENTORY / "group_vars" / "all" / "model.yml"
UNIT = "bedplate-inference.service"


@pytest.fixture(scope="module")
def service(servers: list[Host], hub: Hub) -> Iterator[Service]:
    """model1 from bare to a chat answer, with the tutor from the hub; the inventory says so."""
    hub.repositories["acme/tutor"] = Repository(TUTOR)
    models = [{"name": "tutor", "source": SOURCE, "task": "both"}]
    SETTINGS.write_text(yaml.safe_dump({"hf_endpoint": hub.url, "model_list": models}))
    made = play("site.yml", INVENTORY, CONSOLE, limit=servers[0].name)
    assert made.ok, explain(made)
    yield service_of(servers[0], INVENTORY / "secrets")
    SETTINGS.unlink()


def moved(hub: Hub, folder: Path) -> str:
    """Let the branch point at this folder and take that into models.lock; the revision's folder on a server."""
    hub.repositories["acme/tutor"] = Repository(folder)
    assert lock(SOURCE, INVENTORY, hub.url, None, Console(quiet=True)) == OK
    return f"acme--tutor@{hub.repositories['acme/tutor'].commit[:12]}"


def applied(host: Host) -> Outcome:
    return play("playbooks/application.yml", INVENTORY, CONSOLE, limit=host.name)


def in_use(host: Host) -> str:
    return said(host, "readlink /opt/bedplate/models/tutor")


def answer(service: Service) -> str:
    """What the tutor says; the service is ready then."""
    model, text = service.chat(first_question())
    assert model == "tutor" and service.request("/health/ready") == {"status": "ready"}
    return text


def test_a_revision_that_does_not_become_ready_leaves_the_former_one_serving(
    servers: list[Host], hub: Hub, service: Service, tmp_path: Path
) -> None:
    former, text = in_use(servers[0]), answer(service)
    broken = tmp_path / "broken"
    shutil.copytree(TUTOR, broken)
    weights = (broken / "model.safetensors").read_bytes()
    # Whole files, the right sizes and sha256: only who loads it finds that a tensor has another name.
    (broken / "model.safetensors").write_bytes(weights.replace(b"layers.2.mlp.up_proj", b"layers.2.mlp.xy_proj"))
    fetched = moved(hub, broken)
    outcome = applied(servers[0])
    message = outcome.run.failures[0].message
    assert outcome.returncode == 2, explain(outcome)
    assert "BP607 the new state was taken back: found BP603" in message and "Fix: " in message, message
    assert "BP658" in message and "model.layers.2.mlp.up_proj.weight" in message, message
    assert in_use(servers[0]) == former != fetched and answer(service) == text
    receipt = json.loads(said(servers[0], f"cat {RECEIPT}"))
    assert [model["path"] for model in receipt["model"]["models"]] == [f"/opt/bedplate/models/{former}"]
    assert "BP603" in receipt["inference"]["rolled_back"]["why"]
    assert said(servers[0], f"ls -d /opt/bedplate/models/{fetched}"), "it stands beside, verified and unused"


def test_a_new_revision_is_served_and_left_again_by_rollback(
    servers: list[Host], hub: Hub, service: Service, tmp_path: Path
) -> None:
    former, newer = in_use(servers[0]), tmp_path / "newer"
    shutil.copytree(TUTOR, newer)
    (newer / "README.md").write_text("the same weights, said otherwise")
    latter = moved(hub, newer)
    outcome = applied(servers[0])
    assert outcome.ok, explain(outcome)
    assert in_use(servers[0]) == latter != former and answer(service)
    console = Console(width=300, record=True, quiet=False, file=(tmp_path / "out").open("w"))
    assert rollback(INVENTORY, servers[0].name, console) == 0, console.export_text()
    assert in_use(servers[0]) == former and answer(service)
    assert rollback(INVENTORY, servers[0].name, console) == 1
    assert "BP150" in console.export_text(), "there is one way back, not a swing"
    # Forward again costs no byte.
    hub.served.clear()
    again = applied(servers[0])
    assert again.ok and hub.served == [], explain(again)
    assert in_use(servers[0]) == latter and answer(service)


def test_the_verb_repairs_a_served_model_and_restarts_who_reads_it(
    servers: list[Host], hub: Hub, service: Service
) -> None:
    started = f"systemctl show --property=InvocationID --value {UNIT}"
    before, path = said(servers[0], started), f"/opt/bedplate/models/{in_use(servers[0])}/model.safetensors"
    said(servers[0], f"chmod u+w {path}; printf XXXX | dd of={path} bs=1 seek=100000 conv=notrunc")
    hub.served.clear()
    assert repair(INVENTORY, servers[0].name, CONSOLE) == OK
    assert set(hub.served) == {"acme/tutor/model.safetensors"}
    assert said(servers[0], started) != before and answer(service)
    assert show(INVENTORY, servers[0].name, True, False, Console(quiet=True)) == OK
