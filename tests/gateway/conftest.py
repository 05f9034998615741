"""Two GPU servers and a gateway in front of them, provisioned by site.yml in an inventory of their own."""

from __future__ import annotations

import os
import re
import ssl
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ops.inventory import Host, servers_and_gateways
from ops.paths import WORK
from ops.play import Outcome, play
from ops.service import Service, service_of, trust
from tests.site.conftest import CONSOLE

INVENTORY = Path(os.environ.get("BEDPLATE_GATEWAY_INVENTORY", WORK / "test" / "gateway"))
SANDBOX = {"sandbox_inventory": str(INVENTORY), "sandbox_prefix": "gate", "sandbox_first_address": 76}


@dataclass(frozen=True)
class Cluster:
    """The servers and their gateway, as these tests use them."""

    servers: list[Host]
    gateway: Host

    @property
    def service(self) -> Service:
        """What clients see: the gateway, with the certificate it shows now."""
        return service_of(self.gateway, INVENTORY / "secrets")

    def site(
        self, playbook: str = "site.yml", *, check: bool = False, limit: str | None = None, **extra: Any
    ) -> Outcome:
        return play(playbook, INVENTORY, CONSOLE, check=check, limit=limit, extra=extra)

    def answered(self, server: Host) -> int:
        """How many requests a server has answered, read through the gateway."""
        text = metrics(self.service, server.name)
        return int(sum(float(n) for n in re.findall(r"^vllm:request_success_total\{.*\} (\S+)$", text, re.MULTILINE)))


def metrics(service: Service, name: str) -> str:
    """A server's metrics as the gateway shows them."""
    asked = urllib.request.Request(
        f"{service.base_url}/metrics/{name}", headers={"Authorization": f"Bearer {service.key}"}
    )
    context: ssl.SSLContext = trust(service.certificate)
    with urllib.request.urlopen(asked, timeout=60, context=context) as answer:
        return str(answer.read().decode())


def on(host: Host, command: str, seconds: int = 180) -> str:
    """Output of a shell command as root."""
    with host.connection() as connection:
        script = command.replace("'", "'\\''")
        return str(connection.run(f"sudo sh -ec '{script}'", hide=True, timeout=seconds).stdout).strip()


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Bare at the session's start; BEDPLATE_GATEWAY_INVENTORY names one that is there already and stays."""
    mine = "BEDPLATE_GATEWAY_INVENTORY" in os.environ
    if not mine:
        assert play("playbooks/sandbox.yml", None, CONSOLE, extra={**SANDBOX, "sandbox_state": "absent"}).ok
        made = play(
            "playbooks/sandbox.yml", None, CONSOLE, extra={**SANDBOX, "sandbox_servers": 3, "sandbox_gateways": 1}
        )
        assert made.ok, made.log.read_text()[-4000:]
    (*servers, gateway) = servers_and_gateways(INVENTORY)
    yield Cluster(servers, gateway)
    if not mine:
        play("playbooks/sandbox.yml", None, CONSOLE, extra={**SANDBOX, "sandbox_state": "absent"})
