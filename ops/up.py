"""`./bedplate up`: from bare servers to a chat answer."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from rich.console import Console

from ops.inventory import InventoryError, entrance, servers_and_gateways
from ops.paths import ROOT, SANDBOX_INVENTORY, WORK, short
from ops.play import clock, play, print_failures
from ops.service import ServiceError, first_question, service_of


def start_page_build() -> None:
    """Begin building the chat page while the servers are provisioned; role web_client waits for it, or builds it itself."""
    builder = [sys.executable, "app/web/build.py", "--output", str(WORK / "web"), "--work", str(WORK / "web-work")]
    subprocess.Popen(builder, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def up(inventory: Path | None, servers: int, gateways: int, console: Console, bundle: Path | None = None) -> int:
    """Provision the inventory's hosts, or sandbox servers and gateways made here, from a bundle alone if one is given; returns the exit status."""
    console.print("[bold]Bedplate[/bold]: from bare servers to an OpenAI-compatible LLM service", highlight=False)
    if inventory is None:
        if os.geteuid() != 0 or shutil.which("apt-get") is None:
            console.print(
                "BP010 no inventory, and no sandbox possible: found "
                f"{'no root rights' if os.geteuid() else 'no apt-get'}, wanted root on Debian or Ubuntu to make throwaway servers here. "
                "Fix: run as root, or name your servers: ./bedplate up --inventory inventory/mine",
                highlight=False,
            )
            return 2
        console.print("No inventory given: making throwaway servers on this machine (systemd-nspawn).", highlight=False)
        made = play(
            "playbooks/sandbox.yml",
            None,
            console,
            extra={"sandbox_servers": servers + gateways, "sandbox_gateways": gateways},
        )
        if not made.ok:
            print_failures(made, console, "./bedplate up")
            return 1
        inventory = SANDBOX_INVENTORY
        if (inventory / "group_vars" / "all" / "conda_fixture.yml").exists():
            console.print(
                "The conda channel cannot be reached from here: a stand-in built from PyPI packages serves it "
                "(tests/fixtures/conda_channel).",
                highlight=False,
            )
    try:
        targets = servers_and_gateways(inventory)
    except InventoryError as error:
        console.print(str(error), highlight=False)
        return 2
    shown = short(inventory)
    if bundle is None:
        start_page_build()
    console.print(f"Provisioning {', '.join(host.name for host in targets)} with site.yml", highlight=False)
    outcome = play("site.yml", inventory, console, extra={"bundle": str(bundle)} if bundle else None)
    if not outcome.ok:
        print_failures(
            outcome, console, f"./bedplate up --inventory {shown}" + (f" --bundle {bundle}" if bundle else "")
        )
        return 1
    console.print(
        f"\n[bold]Ready in {clock(outcome.seconds)}[/bold]   log: {outcome.log.relative_to(ROOT)}", highlight=False
    )
    secrets = (inventory if inventory.is_dir() else inventory.parent) / "secrets"
    try:
        for host in entrance(targets):
            service = service_of(host, secrets)
            question = first_question()
            model, answer = service.chat(question)
            console.print(f"\n{host.name}     {service.base_url}", highlight=False)
            console.print(f"API key  cat {short(secrets / 'api_key')}", highlight=False)
            console.print(f"try      {service.curl(question, model)}", highlight=False, soft_wrap=True, markup=False)
            console.print(f"{model} was asked: {question}\nand said: {answer}", highlight=False, markup=False)
    except ServiceError as error:
        console.print(str(error), highlight=False, markup=False)
        return 1
    return 0


def down(console: Console) -> int:
    """Destroy the sandbox servers and forget their inventory."""
    outcome = play("playbooks/sandbox.yml", None, console, extra={"sandbox_state": "absent"})
    if not outcome.ok:
        print_failures(outcome, console, "./bedplate down")
        return 1
    console.print(
        "The sandbox servers are gone. The cached bare tree stays in /var/lib/bedplate-sandbox.", highlight=False
    )
    return 0
