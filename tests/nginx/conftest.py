"""The suite's provisioned server, for what takes minutes or does harm to its web layer; at the end it is as site.yml leaves it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from ops.inventory import Host, hosts
from ops.play import Outcome, play
from ops.service import Service, service_of
from tests.site.conftest import CONSOLE, INVENTORY, explain, sandbox


@dataclass(frozen=True)
class Server:
    """The server, as these tests use it."""

    host: Host

    def on(self, command: str, timeout: float = 300) -> str:
        """Output of a shell command as root."""
        with self.host.connection() as connection:
            return str(connection.run(f"sudo sh -c '{command}'", hide=True, timeout=timeout).stdout).strip()

    def nginx(self, **variables: Any) -> Outcome:
        """The layer of nginx, run with these variables."""
        outcome = play("playbooks/base.yml", INVENTORY, CONSOLE, extra=variables, limit=self.host.name)
        assert outcome.ok, explain(outcome)
        return outcome

    @property
    def service(self) -> Service:
        """Its service, with the certificate it shows now."""
        return service_of(self.host, INVENTORY / "secrets")


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """proof1, made and provisioned where the stages before have not done so."""
    assert sandbox(1).ok
    # The queue holds the users of a restart that takes 50 s, on a machine as busy as a test's.
    for settings in ({"inference_max_queue": 1024}, {}):
        outcome = play("site.yml", INVENTORY, CONSOLE, extra=settings)
        assert outcome.ok, explain(outcome)
        if settings:
            yield Server(hosts(INVENTORY)[0])
