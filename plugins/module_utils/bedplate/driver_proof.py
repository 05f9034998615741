"""Whether an installed driver works as wanted: pure functions over the infrastructure probe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible.module_utils.bedplate.refusal import refusal


def driver_doubts(probe: Mapping[str, Any], plan: Mapping[str, Any], installed: Mapping[str, Any]) -> list[str]:
    """Refusals of a driver that was installed and does not work; empty when it may be passed on.

    plan: of driver_plan. installed: result of bedplate_driver_packages. A driver that Bedplate only keeps is judged by
    cuda_match alone.
    """
    if plan["action"] != "ensure":
        return []
    wanted = str(installed.get("version") or plan.get("version") or f"R{plan['branch']}")
    loaded, libraries = probe.get("nvidia_module") or {}, probe.get("nvidia_userspace") or {}
    smi = probe.get("nvidia_smi") or {}
    parts = {"kernel module": loaded.get("version"), "user space": libraries.get("version")}
    wrong = [f"{part} {found or 'none'}" for part, found in parts.items() if found != wanted]
    if loaded and plan["flavour"] and loaded.get("flavour") != plan["flavour"]:
        wrong.append(f"{loaded.get('flavour')} modules")
        wanted += f" with the {plan['flavour']} modules"
    if smi and smi.get("rc") != 0:
        wrong.append(f"nvidia-smi: {smi.get('message') or smi.get('rc')}")
    said = [
        str(one.get("text", one) if isinstance(one, Mapping) else one) for one in probe.get("failure_signatures") or []
    ]
    doubts = []
    if wrong:
        fix = "read dmesg and `dkms status` on the server; docs/errors.md#bp120 lists the causes."
        found = "; ".join([*wrong, *said])
        doubts.append(refusal("BP120", "NVIDIA driver not working", found, f"driver {wanted}", fix))
    return doubts + _fabric_doubts(probe, plan, loaded.get("version"))


def _fabric_doubts(probe: Mapping[str, Any], plan: Mapping[str, Any], version: str | None) -> list[str]:
    """CUDA stops with error 802 under a Fabric Manager of another version, and nvidia-smi looks healthy."""
    manager = probe.get("fabric_manager") or {}
    if not plan["fabric_manager"] or manager.get("version") == version:
        return []
    fix = "set nvidia_driver_source to a source that has both in one version, or nvidia_driver_fabric_manager=false."
    found = str(manager.get("version") or "none")
    return [refusal("BP165", "Fabric Manager does not fit", found, f"exactly {version}", fix)]
