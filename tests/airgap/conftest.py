"""A bare server whose network reaches only the controller, for the tests of the air gap."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from ops.inventory import Host, hosts
from ops.paths import TUTOR, WORK
from ops.play import Outcome, play
from tests.fixtures.hub.server import Hub, Repository
from tests.fixtures.machine import stand_in
from tests.site.conftest import CONSOLE

INVENTORY = WORK / "airgap" / "inventory"
BUNDLE = WORK / "airgap" / "bundle"
SANDBOX = {"sandbox_inventory": str(INVENTORY), "sandbox_prefix": "air", "sandbox_first_address": 51}
CHAIN = "BEDPLATE_AIRGAP"
MODEL = "hf://acme/tutor@main"


def sandbox(state: str) -> Outcome:
    """Make or remove this suite's server."""
    return play("playbooks/sandbox.yml", None, CONSOLE, extra={**SANDBOX, "sandbox_state": state})


def iptables(*words: str, check: bool = True) -> str:
    """A call of iptables on this machine, which forwards what the server sends."""
    return subprocess.run(["iptables", "-w", *words], capture_output=True, text=True, check=check).stdout


@contextmanager
def cut_off(address: str) -> Iterator[None]:
    """Let the server answer whoever connects to it and send nothing else: any other packet is counted and dropped, DNS too."""
    restore(address)
    iptables("-N", CHAIN)
    iptables("-A", CHAIN, "-m", "conntrack", "--ctstate", "ESTABLISHED,RELATED", "-j", "RETURN")
    iptables("-A", CHAIN, "-j", "DROP")
    for hook in ("INPUT", "FORWARD"):
        iptables("-I", hook, "1", "-s", address, "-j", CHAIN)
    try:
        yield
    finally:
        restore(address)


def restore(address: str) -> None:
    """Connect the server again."""
    for hook in ("INPUT", "FORWARD"):
        iptables("-D", hook, "-s", address, "-j", CHAIN, check=False)
    iptables("-F", CHAIN, check=False)
    iptables("-X", CHAIN, check=False)


def tried() -> int:
    """Packets that the server tried to send anywhere but to those who had connected to it."""
    found = re.search(r"^\s*(\d+)\s+\d+\s+DROP\b", iptables("-nvxL", CHAIN), re.MULTILINE)
    assert found, "no rule counts"
    return int(found[1])


def site(inventory: Path = INVENTORY, bundle: Path = BUNDLE, playbook: str = "site.yml", **extra: Any) -> Outcome:
    """Provision from a bundle."""
    return play(playbook, inventory, CONSOLE, extra={"bundle": str(bundle), **extra})


@pytest.fixture(scope="session")
def server() -> Iterator[Host]:
    """A bare server with two A100s, which a test stands in for, and Debian's own driver to install."""
    assert sandbox("absent").ok
    made = sandbox("present")
    assert made.ok, made.log.read_text()[-4000:]
    (host,) = hosts(INVENTORY)
    settings = {
        "bedplate_machine": stand_in(host, "no-driver", driver="installed", kernel=newest_kernel(host)),
        "nvidia_driver_source": "distribution",
        "nvidia_driver_reboot": True,
        # The real nvidia-persistenced talks to a real GPU; PyTorch is the CPU build in the decided one's place.
        "nvidia_driver_persistenced": False,
        "pytorch_stand_in_variant": "cpu",
    }
    (INVENTORY / "group_vars" / "all" / "machine.yml").write_text(yaml.safe_dump(settings))
    yield host
    restore(host.address)
    sandbox("absent")


def newest_kernel(host: Host) -> str:
    """The newest kernel of Debian 12 that has headers; the server is as bare afterwards as it was before."""
    look = "apt-get update -qq && apt-cache search --names-only '^linux-headers-6\\.1\\.0-[0-9]+-amd64$'; rm -rf /var/lib/apt/lists/*"
    with host.connection() as connection:
        said = str(connection.run(f'sudo -n sh -c "{look}"', hide=True).stdout)
    return max(re.findall(r"^linux-headers-(\S+) ", said, re.MULTILINE), key=lambda name: int(name.split("-")[1]))


@pytest.fixture(scope="session")
def hub(server: Host) -> Iterator[Hub]:
    """A Hub on the controller while the bundle is collected; its address stays in the inventory."""
    controller = f"{server.address.rpartition('.')[0]}.1"
    with Hub({"acme/tutor": Repository(TUTOR)}, (controller, 0)) as running:
        settings = {"hf_endpoint": running.url, "model_list": [{"name": "tutor", "source": MODEL, "task": "both"}]}
        (INVENTORY / "group_vars" / "all" / "model.yml").write_text(yaml.safe_dump(settings))
        yield running
