"""`./bedplate key`: API keys of an inventory's servers, or of one keys file on this machine.

The keys of an inventory that this verb made lie in its folder `secrets`, in `keys.yml`, as digests; role inference writes
them to every server beside the inventory's own key. A running service takes a changed file over by itself.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from ops.inventory import InventoryError, hosts
from ops.paths import short
from ops.play import play, print_failures
from ops.status import ask
from plugins.module_utils.bedplate.refusal import refusal

PLAYBOOK = "playbooks/keys.yml"
# What a key may be limited to by itself, and how a list says it.
LIMITS = {"requests_per_minute": "requests/min", "concurrency": "at once"}
READ_KEYS = "sudo -n cat /etc/bedplate/keys.yml"


class KeyRefused(Exception):
    """The keys are left as they are; the message has code, cause and fix."""


class KeyStore:
    """A keys file as the service reads it: `keys: [{id, sha256, name, expires, …}]`, for its owner alone."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def entries(self) -> list[dict[str, Any]]:
        if not self.path.exists():
            return []
        return entries_of(self.path.read_text(encoding="utf-8"), str(short(self.path)))

    def add(self, name: str, expires: str | None, limits: Mapping[str, int]) -> str:
        """The text of a new key: 256 random bits. It is stored as its digest and cannot be had again."""
        entries = self.entries()
        key_id, secret = secrets.token_hex(4), secrets.token_hex(32)
        key = f"bp-{key_id}-{secret}"
        entry = {"id": key_id, "sha256": hashlib.sha256(key.encode()).hexdigest(), "name": name, "expires": expires}
        self._write([*entries, {**entry, **limits}])
        return key

    def remove(self, key_id: str) -> bool:
        """Whether the key was there."""
        entries = self.entries()
        kept = [entry for entry in entries if str(entry.get("id")) != key_id]
        if len(kept) == len(entries):
            return False
        self._write(kept)
        return True

    def _write(self, entries: list[dict[str, Any]]) -> None:
        """Beside and then in its place: a reader sees the old file or the new one."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # The folder's owner reads it; a service under another user (serve --keys) has a file of its own.
        beside = self.path.with_suffix(".new")
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write("# Digests of API keys, written by ./bedplate key.\n")
            yaml.safe_dump({"keys": entries}, file, sort_keys=False, allow_unicode=True)
        beside.replace(self.path)


def entries_of(text: str, where: str) -> list[dict[str, Any]]:
    """The keys in a keys file's text. Raises KeyRefused."""
    try:
        entries = (yaml.safe_load(text) or {})["keys"]
        return [dict(entry) for entry in entries]
    except (yaml.YAMLError, KeyError, TypeError, ValueError):
        raise KeyRefused(
            refusal(
                "BP012", "keys file", f"no list of keys in {where}", "`keys: [{id, sha256, name, expires}]`", "mend it"
            )
        ) from None


def moment(text: str | None) -> str | None:
    """When a key expires, in UTC, from `90d` or an ISO date or time. Raises KeyRefused."""
    if not text:
        return None
    days = re.fullmatch(r"(\d{1,5})d", text)
    try:
        when = datetime.now(UTC) + timedelta(days=int(days[1])) if days else datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        when = datetime.min
    when = when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)
    if when <= datetime.now(UTC):
        fix = "./bedplate key add --name NAME --expires 90d"
        raise KeyRefused(
            refusal("BP012", "--expires", repr(text), "a time to come: 90d, 2027-01-31 or an ISO time", fix)
        )
    return when.isoformat(timespec="seconds")


def secrets_folder(inventory: Path) -> Path:
    """Where an inventory keeps what is secret, as the roles see it."""
    return (inventory if inventory.is_dir() else inventory.parent) / "secrets"


def key(action: str, inventory: Path, file: Path | None, asked: Mapping[str, Any], console: Console) -> int:
    """Carry out `add`, `list` or `revoke`; returns the exit status."""
    store = KeyStore(file or secrets_folder(inventory) / "keys.yml")
    try:
        if action == "list":
            return _list(inventory, store if file else None, console)
        if action == "add":
            return _add(inventory, store, file is None, asked, console)
        if action == "revoke":
            return _revoke(inventory, store, file is None, str(asked.get("id") or ""), console)
        raise KeyRefused(refusal("BP012", "key", repr(action), "add, list or revoke", "./bedplate key list"))
    except (KeyRefused, InventoryError) as error:
        console.print(str(error), highlight=False, markup=False, soft_wrap=True)
        return 2


def _add(inventory: Path, store: KeyStore, on_servers: bool, asked: Mapping[str, Any], console: Console) -> int:
    name, limits = str(asked.get("name") or ""), {}
    if not re.fullmatch(r"[\w .@/-]{1,64}", name):
        fix = "./bedplate key add --name laptop"
        raise KeyRefused(refusal("BP012", "--name", repr(name), "whose key it is, in 1 to 64 letters and digits", fix))
    for limit in LIMITS:
        if (value := int(asked.get(limit) or 0)) < 0:
            option = f"--{limit.replace('_', '-')}"
            raise KeyRefused(
                refusal("BP012", option, str(value), "1 or more", "leave it out for the service's own limit")
            )
        if value:
            limits[limit] = value
    expires = moment(asked.get("expires"))
    if on_servers:
        hosts(inventory)
    made = store.add(name, expires, limits)
    status = _deliver(inventory, console) if on_servers else 0
    console.print("The key, shown this once:", highlight=False)
    console.print(made, highlight=False, soft_wrap=True)
    return status


def _revoke(inventory: Path, store: KeyStore, on_servers: bool, key_id: str, console: Console) -> int:
    own = store.path.parent / "api_key"
    if store.remove(key_id):
        said = f"{key_id} is revoked."
    elif on_servers and own.exists() and own.read_text().strip().split("-")[1:2] == [key_id]:
        # Every inventory has one, which `up` and `verify` use: another takes its place.
        own.unlink()
        said = f"{key_id} is revoked; the inventory's new key is in {short(own)}."
    else:
        known = ", ".join(str(entry.get("id")) for entry in store.entries()) or "none"
        fix = "./bedplate key list shows all; one given in inference_api_keys is taken out there, then site.yml"
        raise KeyRefused(refusal("BP012", "--id", repr(key_id), f"a key made here ({known})", fix))
    status = _deliver(inventory, console) if on_servers else 0
    console.print(said, highlight=False)
    return status


def _deliver(inventory: Path, console: Console) -> int:
    """Write the keys to the servers. What is stored here reaches them with the next run at the latest."""
    outcome = play(PLAYBOOK, inventory, console)
    if not outcome.ok:
        print_failures(outcome, console, f"./bedplate up --inventory {short(inventory)}")
    return 0 if outcome.ok else 1


def _list(inventory: Path, store: KeyStore | None, console: Console) -> int:
    """Every key that opens a server (or the file), and until when."""
    if store is not None:
        console.print(table({str(short(store.path)): store.entries()}))
        return 0
    found: dict[str, list[dict[str, Any]]] = {}
    status = 0
    for host, answer in ask(hosts(inventory), READ_KEYS):
        if isinstance(answer, Exception):
            console.print(
                f"{host.name}: BP008 not reached: {type(answer).__name__}: {answer}. Fix: ssh to it by hand.",
                highlight=False,
            )
            status = 1
        else:
            found[host.name] = entries_of(answer, f"{host.name}:/etc/bedplate/keys.yml")
    console.print(table(found))
    return status


def table(found: Mapping[str, list[dict[str, Any]]]) -> Table:
    """One line per key: id, name, until when, limits of its own, where it opens."""
    result = Table("id", "name", "expires", "limits", "on", box=None)
    keys = {str(entry["id"]): entry for entries in found.values() for entry in entries}
    for key_id, entry in keys.items():
        limits = [f"{entry[name]} {unit}" for name, unit in LIMITS.items() if entry.get(name)]
        where = [host for host, entries in found.items() if key_id in {str(one["id"]) for one in entries}]
        result.add_row(
            key_id, str(entry.get("name", "")), _until(entry.get("expires")), ", ".join(limits) or "-", ", ".join(where)
        )
    return result


def _until(expires: object) -> str:
    if expires is None:
        return "never"
    when = datetime.fromisoformat(str(expires))
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return f"{when:%Y-%m-%d %H:%M} UTC" + (" (expired)" if when <= datetime.now(UTC) else "")
