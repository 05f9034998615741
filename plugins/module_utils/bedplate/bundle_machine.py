"""The machine a bundle is for, on a collecting server that is none: named in the inventory, or read on the server itself.

Runs on the controller. A machine is `{gpus: [names or PCI ids], kernel, nvswitches, driver}`; without GPUs all else is of no
account. driver: the version that the server has and keeps; without one, its packages are collected.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..stack import StackError, load_tables
from ..stack.host import host_of
from .refusal import refusal


def machine_problem(machine: Mapping[str, Any]) -> str | None:
    """Why nothing can be collected for a machine; None where it can."""
    wanted = (
        "GPUs as nvidia-smi or the PCI bus names them, and their server's kernel (uname -r) or its driver's version"
    )
    try:
        gpus = host_of(load_tables(), {"gpus": [_facts(name) for name in machine.get("gpus") or []]}).gpus
    except StackError as error:
        text: str = refusal("BP184", "unknown machine to collect for", error.cause, wanted, f"{error.fix}.")
        return text
    if gpus and not machine.get("kernel") and not machine.get("driver"):
        fix = "name them in bedplate_bundle_machine (docs/airgap.md)."
        text = refusal("BP184", "unknown machine to collect for", "neither kernel nor driver", wanted, fix)
        return text
    return None


def as_machine(probe: Mapping[str, Any], machine: Mapping[str, Any]) -> dict[str, Any]:
    """What bedplate_infrastructure_probe would have said on that machine; `probe`, of the collecting server, says the rest."""
    if not machine.get("gpus"):
        return dict(probe)
    named = [_facts(name) for name in machine["gpus"]]
    models = [gpu for _, gpu in host_of(load_tables(), {"gpus": named}).gpus]
    gpus = [
        {"pci_id": next(iter(model.pci_ids), ""), **facts, "memory_bytes": model.usable_bytes}
        for facts, model in zip(named, models, strict=True)
    ]
    driver = machine.get("driver")
    return {
        **probe,
        "kernel": machine.get("kernel") or probe["kernel"],
        "gpus": gpus,
        "nvswitches": [{}] if machine.get("nvswitches") else [],
        "nvidia_module": {"version": driver, "flavour": None} if driver else None,
    }


def machine_of(probe: Mapping[str, Any]) -> dict[str, Any]:
    """The machine that a probe was made on."""
    if not probe["gpus"]:
        return {}
    driver = probe["nvidia_module"] or {}
    return {
        "gpus": [gpu["name"] or gpu["pci_id"] for gpu in probe["gpus"]],
        "kernel": probe["kernel"],
        "nvswitches": bool(probe["nvswitches"]),
        **({"driver": driver["version"]} if driver else {}),
    }


def _facts(name: str) -> dict[str, str]:
    return {"pci_id": str(name)} if str(name).lower().startswith("10de:") else {"name": str(name)}
