"""A provisioned server that is given GPUs and driver versions: recorded hardware on it, and users who go on asking meanwhile.

What stands in: the hardware (tests/fixtures/machine) and the bytes of the CUDA wheels, for which the CPU build of the same lock
family is installed. The decision, the locks, the environments, the switch and the service are the real ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import yaml

from ops.inventory import Host, hosts
from ops.play import Outcome, play
from ops.service import Service, service_of
from tests.fixtures.machine import ON_SERVER, stand_in
from tests.site.conftest import CONSOLE, INVENTORY, explain

SETTINGS = INVENTORY / "group_vars" / "all" / "driver_change.yml"
UNIT = "bedplate-inference.service"


@dataclass
class Server:
    """The server, as these tests use it."""

    host: Host

    def on(self, command: str) -> str:
        """Output of a shell command as root."""
        with self.host.connection() as connection:
            return str(connection.run(f"sudo sh -c '{command}'", hide=True, timeout=60).stdout).strip()

    def gets(self, tree: str) -> None:
        """The recorded hardware and driver, from now on in the inventory too."""
        machine = stand_in(self.host, tree)
        # The queue holds the users of a restart that takes 100 s, on a machine as busy as a test's.
        settings = {"bedplate_machine": machine, "pytorch_stand_in_variant": "cpu", "inference_max_queue": 1024}
        SETTINGS.write_text(yaml.safe_dump(settings))

    def site(self, playbook: str = "site.yml", **variables: Any) -> Outcome:
        return play(playbook, INVENTORY, CONSOLE, extra=variables, limit=self.host.name)

    @property
    def environment(self) -> str:
        """Folder of the environment the service's process runs from."""
        return self.on(f"readlink /proc/$(systemctl show --value -p MainPID {UNIT})/exe").split("/")[4]

    @property
    def starts(self) -> int:
        """How often systemd has started the service, as its journal has it."""
        return int(self.on(f"journalctl -u {UNIT} -o cat | grep -c ^Started"))


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """The suite's provisioned server; at the end it is the CPU host again that it was."""
    host = hosts(INVENTORY)[0]
    given = Server(host)
    yield given
    SETTINGS.unlink(missing_ok=True)
    given.on(
        f"systemctl disable -q bedplate-stand-in.service; xargs -r rm -f < {ON_SERVER}.placed; "
        f"rm -rf {ON_SERVER} {ON_SERVER}.placed /etc/systemd/system/bedplate-stand-in.service; systemctl daemon-reload"
    )
    outcome = given.site()
    assert outcome.ok, explain(outcome)


@pytest.fixture
def service(server: Server) -> Service:
    """Its service, with certificate and key."""
    return service_of(server.host, INVENTORY / "secrets")
