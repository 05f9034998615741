"""A provisioned server that is given GPUs and driver versions: recorded hardware on it, and users who go on asking meanwhile.

What stands in: the hardware (tests/fixtures/machine) and the bytes of the CUDA wheels, for which the CPU build of the same lock
family is installed. The decision, the locks, the environments, the switch and the service are the real ones.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import openai
import pytest
import yaml

from ops.inventory import Host, hosts
from ops.play import Outcome, play
from ops.service import Service, service_of, trust
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


@dataclass
class Load:
    """Ten chats a second through Nginx and TLS, each its own; what came of them."""

    service: Service
    seconds: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Load:
        self._thread = threading.Thread(target=lambda: asyncio.run(self._ask()))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    async def _ask(self) -> None:
        """At most ten minutes of it."""
        http = openai.DefaultAsyncHttpxClient(verify=trust(self.service.certificate))
        # Without retries: what fails once counts.
        client = openai.AsyncOpenAI(
            base_url=f"{self.service.base_url}/v1",
            api_key=self.service.key,
            max_retries=0,
            timeout=120,
            http_client=http,
        )
        async with client, asyncio.TaskGroup() as group:
            for _ in range(6000):
                if self._over.is_set():
                    break
                group.create_task(self._one(client))
                await asyncio.sleep(0.1)

    async def _one(self, client: openai.AsyncOpenAI) -> None:
        began = time.monotonic()
        try:
            answer = await client.chat.completions.create(
                model="tutor", messages=[{"role": "user", "content": "What is Bedplate?"}], max_tokens=8
            )
        except openai.OpenAIError as error:
            self.failures.append(f"{type(error).__name__}: {error}"[:300])
            return
        self.seconds.append(time.monotonic() - began)
        if not answer.choices[0].finish_reason:
            self.failures.append(f"an answer without an end: {answer}")

    def __str__(self) -> str:
        return f"{len(self.seconds)} answers, slowest {max(self.seconds, default=0):.1f} s, {len(self.failures)} failed"


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
