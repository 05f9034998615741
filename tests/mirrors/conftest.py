"""A bare server in a network as companies have it: nothing but this machine's proxy can be reached from it."""

from __future__ import annotations

import ipaddress
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from ops.inventory import Host, hosts
from ops.paths import WORK
from ops.play import Outcome, play
from tests.fixtures.mirror import Authority, Proxy, authority
from tests.site.conftest import CONSOLE

INVENTORY = WORK / "mirrors" / "inventory"
SANDBOX = {"sandbox_inventory": str(INVENTORY), "sandbox_prefix": "mirror", "sandbox_first_address": 45}
# Its network and what answers in it: the stand-in for the conda channel is served from there, too.
FIXTURE = Path("/var/lib/bedplate-sandbox/fixture")


@dataclass
class Closed:
    """The server, this machine's address in its network, the proxy, and a company's certificate authority."""

    host: Host
    controller: str
    proxy: Proxy
    authority: Authority

    def blocked(self) -> int:
        """TCP connections that the server tried past the proxy."""
        listed = subprocess.run(["iptables", "-nvxL"], check=True, capture_output=True, text=True).stdout
        return sum(
            int(line.split()[0]) for line in listed.splitlines() if f"mirrors-{self.host.address} " in f"{line} "
        )


def site(playbook: str, *, check: bool = False, **extra: Any) -> Outcome:
    return play(playbook, INVENTORY, CONSOLE, check=check, extra=extra)


def sandbox(state: str) -> Outcome:
    return play("playbooks/sandbox.yml", None, CONSOLE, extra={**SANDBOX, "sandbox_servers": 1, "sandbox_state": state})


def _rules(host: Host, proxy_port: int) -> list[list[str]]:
    """New connections of the server: through this machine none, to this machine only those to the proxy."""
    start = ["-s", host.address, "-p", "tcp", "--syn"]
    end = ["-m", "comment", "--comment", f"mirrors-{host.address}", "-j", "REJECT", "--reject-with", "tcp-reset"]
    return [["FORWARD", *start, *end], ["INPUT", *start, "!", "--dport", str(proxy_port), *end]]


@pytest.fixture(scope="session")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Closed]:
    assert sandbox("absent").ok
    made = sandbox("present")
    assert made.ok, made.log.read_text()[-4000:]
    (host,) = hosts(INVENTORY)
    controller = str(ipaddress.ip_interface(f"{host.address}/24").network[1])
    with Proxy((controller, 0)) as proxy:
        rules = _rules(host, proxy.server_address[1])
        for rule in rules:
            subprocess.run(["iptables", "-I", *rule], check=True)
        try:
            yield Closed(host, controller, proxy, authority(tmp_path_factory.mktemp("authority"), controller))
        finally:
            for rule in rules:
                subprocess.run(["iptables", "-D", *rule], check=True)
            sandbox("absent")


@pytest.fixture(scope="session")
def stand_in() -> dict[str, Any]:
    """What the sandbox's inventory says of the stand-in for conda-forge; without one the mirrors would serve the real channel."""
    path = INVENTORY / "group_vars" / "all" / "conda_fixture.yml"
    if not path.is_file():
        pytest.skip("the conda channel itself is reached from here; the mirrors have no copy of it")
    settings: dict[str, Any] = yaml.safe_load(path.read_text())
    path.unlink()
    return settings
