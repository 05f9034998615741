"""Whether an installed driver works as wanted: pure functions over the infrastructure probe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible.module_utils.bedplate.driver_truth import driver_problems
from ansible.module_utils.bedplate.refusal import refusal


def driver_doubts(probe: Mapping[str, Any], plan: Mapping[str, Any], installed: Mapping[str, Any]) -> list[str]:
    """Refusals of a driver that was installed and does not work, or is not the one wanted; empty when it may be passed on.

    plan: of driver_plan. installed: result of bedplate_driver_packages. A driver that Bedplate only keeps is judged by
    cuda_match alone.
    """
    if plan["action"] != "ensure":
        return []
    if problems := driver_problems(probe):
        return list(problems)
    wanted = str(installed.get("version") or plan.get("version") or f"R{plan['branch']}")
    module, libraries = probe["nvidia_module"], probe.get("nvidia_userspace") or {}
    parts = {"kernel module": module["version"], "user space": libraries.get("version")}
    wrong = [f"{part} {found or 'none'}" for part, found in parts.items() if found != wanted]
    if plan["flavour"] and module["flavour"] != plan["flavour"]:
        wrong.append(f"the {module['flavour']} modules")
        wanted += f" with the {plan['flavour']} modules"
    if not wrong:
        return []
    fix = "remove what else is installed of NVIDIA (dpkg -l '*nvidia*', ldconfig -p | grep libcuda), then run again."
    return [refusal("BP120", "another driver came up than was installed", "; ".join(wrong), f"driver {wanted}", fix)]
