"""Three bare servers and a hub on this machine, for the role model alone: transfers, faults, repair."""

from __future__ import annotations

import ipaddress
import json
import os
import random
import signal
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ops.inventory import Host, hosts
from ops.paths import ROOT, TUTOR, VENV_BIN, WORK
from ops.play import Outcome, play
from tests.fixtures.hub.server import Hub, Repository
from tests.site.conftest import CONSOLE

INVENTORY = WORK / "models" / "inventory"
SANDBOX = {"sandbox_inventory": str(INVENTORY), "sandbox_prefix": "model", "sandbox_first_address": 111}
# The role model by itself; it needs nothing of the other layers.
PLAYBOOK = "playbooks/repair_models.yml"
BIG = 200 << 20
TOKEN = "hf_canary_5d1b"


def sandbox(state: str) -> Outcome:
    """Make or remove this suite's servers."""
    return play("playbooks/sandbox.yml", None, CONSOLE, extra={**SANDBOX, "sandbox_servers": 3, "sandbox_state": state})


@pytest.fixture(scope="session")
def servers() -> Iterator[list[Host]]:
    assert sandbox("absent").ok
    made = sandbox("present")
    assert made.ok, made.log.read_text()[-3000:]
    yield hosts(INVENTORY)
    assert sandbox("absent").ok


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tutor with a second file of weights, 200 MB of noise under a right header."""
    folder = tmp_path_factory.mktemp("weights")
    for path in TUTOR.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    header = json.dumps({"noise": {"dtype": "U8", "shape": [BIG], "data_offsets": [0, BIG]}}).encode()
    noise = random.Random(3)
    with (folder / "noise.safetensors").open("wb") as stream:
        stream.write(struct.pack("<Q", len(header)) + header)
        for _ in range(BIG >> 20):
            stream.write(noise.randbytes(1 << 20))
    return folder


@pytest.fixture(scope="session")
def hub(servers: list[Host], weights: Path) -> Iterator[Hub]:
    """One repository a test, all of the same files: each starts with nothing on the servers."""
    controller = str(ipaddress.ip_interface(f"{servers[0].address}/24").network[1])
    names = ("shared", "killed", "cut", "full", "flipped")
    repositories = {f"acme/{name}": Repository(weights, token=TOKEN if name == "shared" else "") for name in names}
    with Hub(repositories, (controller, 0)) as running:
        for repository in repositories.values():
            assert repository.files
        yield running


def asked(hub: Hub, name: str) -> dict[str, Any]:
    """Variables that take a model from the hub."""
    models = [{"name": name, "source": f"hf://acme/{name}@main", "task": "both"}]
    return {"hf_endpoint": hub.url, "model_list": models, "model_hub_token": TOKEN if name == "shared" else ""}


def run(hub: Hub, name: str, limit: str | None = "model1", **extra: Any) -> Outcome:
    """The role model on the servers."""
    return play(PLAYBOOK, INVENTORY, CONSOLE, limit=limit, extra={**asked(hub, name), **extra})


def begun(hub: Hub, name: str) -> subprocess.Popen[str]:
    """The same, on one server, in the background; its output is not read until it has ended."""
    argv = [str(VENV_BIN / "ansible-playbook"), PLAYBOOK, "-i", str(INVENTORY), "--limit", "model1"]
    argv += ["-e", json.dumps(asked(hub, name))]
    log = (WORK / "models" / f"{name}.log").open("w")
    return subprocess.Popen(argv, cwd=ROOT, text=True, stdout=log, stderr=log, start_new_session=True)


def kill(process: subprocess.Popen[str]) -> None:
    """kill -9 ansible-playbook and everything it started here, its connections too."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def said(host: Host, script: str) -> str:
    """What a shell on the host says; its exit status does not matter."""
    with host.connection() as connection:
        return str(connection.run(f"sudo sh -c '{script}'", hide=True, warn=True, timeout=120).stdout).strip()


def progress(host: Host) -> int:
    """Bytes of the transfer under way on a host."""
    text = said(host, "cat /run/bedplate-fetch/*/progress.json 2>/dev/null")
    return int(json.loads(text)["done"]) if text else 0


def wait_for(host: Host, count: int, attended: subprocess.Popen[str] | None = None) -> int:
    """Until so many bytes of a transfer are there; how many there are."""
    for _ in range(600):
        assert attended is None or attended.poll() is None, "the play ended before"
        done = progress(host)
        if done >= count:
            return done
        time.sleep(0.3)
    raise AssertionError(f"no transfer came to {count} bytes")


def is_whole(host: Host, hub: Hub, name: str, weights: Path) -> bool:
    """Whether the server's files are the source's, byte for byte."""
    directory = f"/opt/bedplate/models/acme--{name}@{hub.repositories[f'acme/{name}'].commit[:12]}"
    sums = said(host, f"cd {directory} && sha256sum noise.safetensors model.safetensors config.json")
    here = subprocess.run(
        ["sha256sum", "noise.safetensors", "model.safetensors", "config.json"],
        cwd=weights, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return sums == here.stdout.strip() and said(host, f"readlink /opt/bedplate/models/{name}") == Path(directory).name
