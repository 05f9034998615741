"""Read the hosts of an inventory, as Ansible itself sees them."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fabric import Config, Connection

from ops.paths import ROOT, VENV_BIN

GROUP = "gpu_servers"
GATEWAYS = "gateways"
CONNECT_SECONDS = 10


class InventoryError(Exception):
    """The inventory cannot be used; the message has code, cause and fix."""


@dataclass(frozen=True)
class Host:
    """A server and how to log in."""

    name: str
    variables: dict[str, Any]
    # Whether it is a GPU server, a gateway in front of them, or both.
    groups: tuple[str, ...] = (GROUP,)

    @property
    def address(self) -> str:
        """What a client connects to."""
        return str(self.variables.get("ansible_host", self.name))

    @property
    def https_port(self) -> int:
        """Where its web layer listens."""
        return int(self.variables.get("nginx_https_port", 443))

    @property
    def base_url(self) -> str:
        """The service's address, without a path."""
        return f"https://{self.address}" + ("" if self.https_port == 443 else f":{self.https_port}")

    def connection(self) -> Connection:
        """An SSH connection to it (Fabric), with the same user, port and key as Ansible's."""
        key = self.variables.get("ansible_ssh_private_key_file", self.variables.get("ansible_private_key_file"))
        return Connection(
            self.address,
            user=self.variables.get("ansible_user"),
            port=int(self.variables.get("ansible_port", 22)),
            connect_timeout=CONNECT_SECONDS,
            connect_kwargs={"key_filename": str(Path(key).expanduser())} if key else {},
            # Nothing run over it asks anything: without an input it also works where there is none (cron, pytest).
            config=Config(overrides={"load_ssh_configs": True, "run": {"in_stream": False}}),
        )


def must_exist(inventory: Path) -> None:
    """Raises InventoryError where there is no inventory."""
    if not inventory.exists():
        raise InventoryError(
            f"BP004 no inventory: found nothing at {inventory}, wanted a folder or file with the group {GROUP}. "
            "Fix: cp -r inventory/example inventory/mine, name your servers in inventory/mine/hosts.yml."
        )


def hosts(inventory: Path) -> list[Host]:
    """The hosts of the group gpu_servers. Raises InventoryError when there are none."""
    return [host for host in servers_and_gateways(inventory) if GROUP in host.groups]


def servers_and_gateways(inventory: Path) -> list[Host]:
    """The hosts of the group gpu_servers, then those that are gateways alone. Raises InventoryError when there are no servers."""
    must_exist(inventory)
    done = subprocess.run(
        [str(VENV_BIN / "ansible-inventory"), "-i", str(inventory), "--list"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    listed = json.loads(done.stdout) if done.returncode == 0 else {}
    members = {group: listed.get(group, {}).get("hosts", []) for group in (GROUP, GATEWAYS)}
    if not members[GROUP]:
        raise InventoryError(
            f"BP005 no servers: found no host in the group {GROUP} of {inventory}, wanted at least one. "
            f"Fix: add them under {GROUP} in the inventory. {done.stderr.strip()}".rstrip()
        )
    variables = listed.get("_meta", {}).get("hostvars", {})
    names = dict.fromkeys(name for group in members.values() for name in group)
    return [
        Host(name, variables.get(name, {}), tuple(group for group, hosts in members.items() if name in hosts))
        for name in names
    ]


def entrance(hosts: list[Host]) -> list[Host]:
    """Where clients go: the gateways, or without any the servers themselves."""
    return [host for host in hosts if GATEWAYS in host.groups] or hosts
