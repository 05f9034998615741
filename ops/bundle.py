"""`./bedplate bundle`: everything the servers of an inventory would fetch, gathered for a place without the internet.

The layers are really run, on a bare collecting server per kind of host (playbooks/bundle.yml); what it fetched is the bundle.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from ops.bundle_files import assemble, size_of
from ops.inventory import Host, InventoryError, hosts
from ops.paths import ROOT, VENV_BIN, WORK, short
from ops.play import clock, play, print_failures
from plugins.module_utils.bedplate.bundle import INDEX
from plugins.module_utils.bedplate.bundle_machine import machine_of, machine_problem
from plugins.module_utils.bedplate.manifest import sha256_of
from plugins.module_utils.bedplate.refusal import refusal

COLLECTORS = WORK / "bundle" / "inventory"
SANDBOX = {"sandbox_inventory": str(COLLECTORS), "sandbox_prefix": "collect", "sandbox_first_address": 59}
# What sandbox.yml can make on this machine.
SUITES = {"debian-12": "bookworm", "debian-13": "trixie"}
# How to reach a host, not what it gets.
LOGIN = ("ansible_host", "ansible_port", "ansible_user", "ansible_ssh_private_key_file", "ansible_ssh_common_args")
ASK = ". /etc/os-release && echo $ID-${VERSION_ID%%.*}-$(uname -m)"


class NoBundle(Exception):
    """A refusal, whole."""


@dataclass(frozen=True)
class Kind:
    """Hosts that get the same: one of them stands for all. platform: debian-12-x86_64. machine: as bundle_machine.py has it."""

    platform: str
    hosts: tuple[Host, ...]
    machine: Mapping[str, Any] = field(default_factory=dict)

    @property
    def collector(self) -> dict[str, Any]:
        """How to log in to a collecting server of the user's own; empty where one is made here."""
        return dict(self.hosts[0].variables.get("bedplate_bundle_collector") or {})

    @property
    def hardware(self) -> str:
        """for 2 NVIDIA A100 80GB PCIe, in words; empty without GPUs."""
        counted = Counter(self.machine.get("gpus") or [])
        return " for " + " and ".join(f"{count} {name}" for name, count in counted.items()) if counted else ""


def bundle(inventory: Path, output: Path, console: Console) -> int:
    """Make or renew the bundle in `output`; returns the exit status."""
    try:
        kinds = kinds_of(hosts(inventory), lambda host: look(host, inventory))
        ready(output, kinds)
    except (InventoryError, NoBundle) as error:
        console.print(str(error), highlight=False, markup=False)
        return 2
    output.mkdir(parents=True, exist_ok=True)
    for folder in ("collected", "wishes"):
        shutil.rmtree(output / folder, ignore_errors=True)
    seconds = 0.0
    for kind in kinds:
        names = ", ".join(host.name for host in kind.hosts)
        console.print(f"Collecting what {names} would fetch, on a bare {kind.platform}{kind.hardware}", highlight=False)
        try:
            login = kind.collector or sandbox(kind, console)
            extra = {**login, "bedplate_bundle_output": str(output), "bedplate_bundle_machine": kind.machine}
            outcome = play("playbooks/bundle.yml", inventory, console, extra=extra, limit=kind.hosts[0].name)
        finally:
            if not kind.collector:
                play("playbooks/sandbox.yml", None, console, extra={**SANDBOX, "sandbox_state": "absent"}, lines=False)
        seconds += outcome.seconds
        if not outcome.ok:
            print_failures(outcome, console, f"./bedplate bundle --inventory {short(inventory)} --output {output}")
            return 1
    console.print("Writing the indexes, the manifest and the SBOM", highlight=False)
    found = assemble(output, {kind.hosts[0].name: [host.name for host in kind.hosts] for kind in kinds})
    console.print(f"\n[bold]{size_of(found)}[/bold] collected in {clock(seconds)}: {output}", highlight=False)
    for label, count, size in contents(found):
        console.print(f"  {label:<12} {count:>5} files  {size / 1e6:8.1f} MB", highlight=False)
    console.print(f"manifest  {output / INDEX}   SBOM  {output / 'sbom.cdx.json'}", highlight=False)
    console.print(
        f"sha256    {sha256_of(output / INDEX)}  of the manifest, to compare where it arrives", highlight=False
    )
    console.print(f"install   ansible-playbook -i {short(inventory)} site.yml -e bundle={output}", highlight=False)
    return 0


def contents(found: Mapping[str, Any]) -> list[tuple[str, int, int]]:
    """(kind, number of files, bytes), the biggest first."""
    sums: dict[str, list[int]] = {}
    for entry in found["files"]:
        sums.setdefault(entry["kind"], []).append(entry["size"])
    return sorted(((kind, len(sizes), sum(sizes)) for kind, sizes in sums.items()), key=lambda row: -row[2])


def kinds_of(targets: Iterable[Host], ask: Callable[[Host], tuple[str, Mapping[str, Any]]]) -> list[Kind]:
    """The hosts by platform, machine and variables; ask(host): platform and machine of one whose platform the inventory does not say."""
    found: dict[str, Kind] = {}
    for host in targets:
        named = host.variables.get("bedplate_bundle_platform")
        name, machine = (str(named), {}) if named else ask(host)
        machine = {**machine, **(host.variables.get("bedplate_bundle_machine") or {})}
        wishes = {key: value for key, value in host.variables.items() if key not in LOGIN}
        key = json.dumps([name, machine, wishes], sort_keys=True, default=str)
        same = found[key].hosts if key in found else ()
        found[key] = Kind(name, (*same, host), machine)
    return list(found.values())


def look(host: Host, inventory: Path) -> tuple[str, dict[str, Any]]:
    """Platform and machine of a host that can be reached. Raises NoBundle BP020."""
    fix = f"say what {host.name} is, in the inventory: bedplate_bundle_platform: debian-12-x86_64, and bedplate_bundle_machine."
    try:
        with host.connection() as connection:
            name = str(connection.run(ASK, hide=True, timeout=20).stdout).strip()
        machine = machine_of(probed(host, inventory))
    except Exception as error:
        cause = " ".join(str(error).split()) or type(error).__name__
        raise NoBundle(
            refusal("BP020", "host cannot be asked what it is", f"{host.name}: {cause[:200]}", "an SSH login", fix)
        ) from error
    if any(str(host.variables.get(f"nvidia_driver_{name}") or "auto") != "auto" for name in ("branch", "version")):
        # Perhaps another driver than the present one: its packages belong into the bundle.
        machine.pop("driver", None)
    return name, machine


def probed(host: Host, inventory: Path) -> dict[str, Any]:
    """What the roles' own probe sees on a host. Raises RuntimeError with Ansible's words."""
    arguments = {"disk_path": "/", "machine": host.variables.get("bedplate_machine") or {}}
    words = ["-i", str(inventory), "--become", "-m", "bedplate_infrastructure_probe", "-a", json.dumps(arguments)]
    environment = {**os.environ, "ANSIBLE_CALLBACK_RESULT_FORMAT": "json"}
    command = [str(VENV_BIN / "ansible"), host.name, *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=environment)
    if done.returncode != 0:
        raise RuntimeError(done.stdout or done.stderr)
    probe: dict[str, Any] = json.loads(done.stdout.partition("=>")[2])["probe"]
    return probe


def ready(output: Path, kinds: Iterable[Kind]) -> None:
    """Everything that can be refused before anything is made. Raises NoBundle BP021, BP022, BP184."""
    if output.exists() and any(output.iterdir()) and not (output / INDEX).exists() and not (output / "wishes").exists():
        fix = "name an empty folder, or one that holds a bundle to renew."
        raise NoBundle(
            refusal("BP022", "output folder not empty", f"other files in {output}", "a bundle's folder", fix)
        )
    for kind in kinds:
        if problem := machine_problem(kind.machine):
            raise NoBundle(problem)
        if kind.collector:
            continue
        release, _, machine = kind.platform.rpartition("-")
        found = f"{kind.hosts[0].name} with {kind.platform}, and here "
        found += f"{platform.machine()}, {'root' if os.geteuid() == 0 else 'no root rights'}"
        if release not in SUITES or machine != platform.machine() or os.geteuid() != 0:
            wanted = f"root on {machine} for one of {', '.join(SUITES)}, or a collecting server of your own"
            fix = "name a bare server of that kind with access to the internet in bedplate_bundle_collector (docs/airgap.md)."
            raise NoBundle(refusal("BP021", "no collecting server can be made here", found, wanted, fix))


def sandbox(kind: Kind, console: Console) -> dict[str, Any]:
    """A fresh bare server on this machine; returns how to log in. Raises NoBundle BP021."""
    suite = SUITES[kind.platform.rpartition("-")[0]]
    for state in ("absent", "present"):
        extra = {**SANDBOX, "sandbox_suite": suite, "sandbox_state": state}
        made = play("playbooks/sandbox.yml", None, console, extra=extra, lines=False)
        if not made.ok:
            said = (
                "; ".join(failure.message for failure in made.run.failures)[:400] or f"see {made.log.relative_to(ROOT)}"
            )
            fix = "correct what it names, or name a server of your own in bedplate_bundle_collector."
            raise NoBundle(refusal("BP021", "no collecting server can be made here", said, "a sandbox server", fix))
    (server,) = hosts(COLLECTORS)
    return {key: server.variables[key] for key in LOGIN if key in server.variables}
