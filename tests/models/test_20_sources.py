"""Every kind of source brings the same files to a live server, and a model with code of its own only by a pinned opt-in.

Alone: ./bedplate test --only models
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

from rich.console import Console

from ops.inventory import Host
from ops.model import OK, lock
from ops.paths import TUTOR
from ops.play import Outcome, play
from tests.fixtures.hub.server import Hub, Repository
from tests.models.conftest import INVENTORY, PLAYBOOK, run, said
from tests.site.conftest import CONSOLE, explain

SERVED = ("config.json", "model.safetensors", "tokenizer.json")


def sums(folder: Path) -> str:
    """What sha256sum says of the files that the service reads."""
    return "\n".join(f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}" for name in SERVED)


def arrived(host: Host, name: str) -> str:
    """The same of a model on a server."""
    return said(host, f"cd /opt/bedplate/models/{name} && sha256sum {' '.join(SERVED)}")


def test_lists_archives_folders_and_modelscope_bring_the_same_files(
    servers: list[Host], hub: Hub, tmp_path: Path
) -> None:
    served, host = tmp_path / "served", servers[1]
    shutil.copytree(TUTOR, served)
    with tarfile.open(served / "tutor.tar.gz", "w:gz", compresslevel=1) as archive:
        archive.add(TUTOR, "tutor-1.0")
    listed = "".join(f"{hashlib.sha256(one.read_bytes()).hexdigest()}  {one.name}\n" for one in sorted(TUTOR.iterdir()))
    (served / "SHA256SUMS").write_text(listed)
    hub.repositories |= {"acme/files": Repository(served), "acme/scoped": Repository(TUTOR)}
    with host.connection() as connection:
        connection.put(str(served / "tutor.tar.gz"), "/tmp/tutor.tar.gz")
    said(host, "tar --extract --file /tmp/tutor.tar.gz --directory /srv")
    sources = {
        "listed": f"{hub.url}/files/acme/files/SHA256SUMS",
        "packed": f"{hub.url}/files/acme/files/tutor.tar.gz",
        "scoped": "modelscope://acme/scoped@master",
        "mounted": "file:///srv/tutor-1.0",
        "copied": str(TUTOR),
    }

    def brought() -> Outcome:
        models = [{"name": name, "source": source, "task": "both"} for name, source in sources.items()]
        asked: dict[str, Any] = {"model_list": models, "modelscope_endpoint": hub.url}
        return play(PLAYBOOK, INVENTORY, CONSOLE, limit=host.name, extra=asked)

    first = brought()
    assert first.ok, explain(first)
    assert {name: arrived(host, name) for name in sources} == dict.fromkeys(sources, sums(TUTOR))
    hub.served.clear()
    again = brought()
    assert again.ok and again.run.changed == 0 and hub.served == [], explain(again)


def test_a_model_with_its_own_code_waits_for_an_opt_in_that_names_its_commit(
    servers: list[Host], hub: Hub, tmp_path: Path
) -> None:
    own, host = tmp_path / "own", servers[2]
    shutil.copytree(TUTOR, own)
    config = json.loads((own / "config.json").read_text())
    config["auto_map"] = {"AutoModelForCausalLM": "modeling_own.Own"}
    (own / "config.json").write_text(json.dumps(config))
    (own / "modeling_own.py").write_text("raise SystemExit('this ran')\n")

    def taken(pin: str) -> Outcome:
        model = {"name": "own", "source": "hf://acme/own@main", "task": "both"}
        return run(hub, "own", limit=host.name, model_list=[{**model, "ignore_remote_code": pin} if pin else model])

    def refused(pin: str) -> str:
        outcome = taken(pin)
        assert not outcome.ok, explain(outcome)
        return outcome.run.failures[0].message

    hub.repositories["acme/own"] = Repository(own)
    first = hub.repositories["acme/own"].commit
    # Without a lock, and from the lock that run wrote.
    for message in (refused(""), refused("")):
        assert "BP504 model own brings its own code" in message and f"ignore_remote_code: {first}" in message, message
    assert hub.meter.sent["acme/own/model.safetensors"] < 1 << 20, "at most the header, to lock it"
    assert said(host, "ls /opt/bedplate/models | grep own") == ""
    outcome = taken(first)
    assert outcome.ok, explain(outcome)
    assert arrived(host, "own") == sums(own)
    assert said(host, 'find /opt/bedplate/models -name "*.py"') == "", "its code stays where it is"
    # The branch moves on: what was agreed to is not what would come.
    (own / "README.md").write_text("another commit")
    hub.repositories["acme/own"] = Repository(own)
    assert lock("hf://acme/own@main", INVENTORY, hub.url, None, Console(quiet=True)) == OK
    message = refused(first)
    assert f"at {hub.repositories['acme/own'].commit}, while ignore_remote_code names {first}" in message, message
    assert said(host, "readlink /opt/bedplate/models/own") == f"acme--own@{first[:12]}"
