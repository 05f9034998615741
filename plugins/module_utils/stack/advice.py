"""The fix: what to install, remove or ask for instead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .assess import Assessment
from .cuda import accepts_base
from .drivers import DriverPlan, branch_has, driver_needs, driver_plan
from .stacks import Stack
from .tables import Tables

DRIVER_REASONS = ("driver_dropped_gpu", "driver_too_old_for_gpu", "driver_too_old_for_cuda", "kernel_module_flavour")


def fix_for(tables: Tables, found: Assessment, alternatives: Sequence[Mapping[str, Any]]) -> str:
    """One sentence about the main reason of a rejected stack."""
    host, main = found.host, found.problems[0]
    instead = f"take {alternative_text(alternatives[0])}" if alternatives else ""
    if main.reason == "no_gpu":
        return "set pytorch_variant: cpu, or make the GPU visible to the system (lspci -nn -d 10de: must list it)"
    if main.reason == "mixed_gpus":
        return _or("put these GPUs into different servers", instead)
    if main.reason in DRIVER_REASONS:
        # An alternative on another driver or flavour says the same as the fix.
        on_this_driver = alternatives and not {"driver", "kernel_module"} & set(alternatives[0])
        return _or(_driver_fix(tables, found), instead if on_this_driver else "")
    if main.reason in ("forward_compat_refused", "compat_package_older_than_driver") and host.compat:
        return f"remove {host.compat.name} from the host and from LD_LIBRARY_PATH" + (
            f", then {instead}" if instead else ""
        )
    if main.reason == "python_unsupported" and found.stack.release:
        pythons = found.stack.release.python
        return _or(f"use Python {pythons[0]} to {pythons[-1]} for {found.stack.name}", instead)
    if main.reason == "not_locked":
        return _or(f"lock it: {lock_command(found.stack)}", instead)
    if main.reason == "glibc_too_old":
        return _or("use a newer release of the operating system", instead)
    return (
        instead
        or f"change the wish: no known stack serves {' and '.join(gpu.names[0] for gpu in host.models) or 'it'} with it"
    )


def install(plan: DriverPlan) -> str:
    """'install driver 580 (…): nvidia_driver_branch: 580, nvidia_driver_flavour: open'."""
    return f"install {plan}: nvidia_driver_branch: {plan.branch.number}, nvidia_driver_flavour: {plan.flavour}"


def lock_command(stack: Stack) -> str:
    """'./bedplate lock --torch 2.9.1 --variant cu128', which docs/how-to.md explains."""
    return f"./bedplate lock --torch {stack.torch} --variant {stack.variant}"


def alternative_text(alternative: Mapping[str, Any]) -> str:
    """'torch 2.10.0+cu128 with vllm 0.19.1 on driver 580.178.04 with the open modules', as far as it differs from the question."""
    text = f"torch {alternative['torch']}+{alternative['variant']}"
    if "libs" in alternative:
        text += " with " + ", ".join(f"{name} {wanted}" for name, wanted in alternative["libs"].items() if wanted)
    if "driver" in alternative:
        text += f" on driver {alternative['driver']}"
    if "kernel_module" in alternative:
        text += f" with the {alternative['kernel_module']} modules"
    return text + (" without cuda-compat" if "cuda_compat" in alternative else "")


def _driver_fix(tables: Tables, found: Assessment) -> str:
    host, cuda = found.host, tables.cuda.get(found.stack.variant)
    if all(problem.reason == "kernel_module_flavour" for problem in found.problems) and host.driver:
        branch, flavours = tables.branch(host.driver), driver_needs(host.models).flavours
        if branch and flavours and branch_has(branch, flavours[-1]):
            return f"install the {flavours[-1]} modules of the same driver: nvidia_driver_flavour: {flavours[-1]}"
    plan = driver_plan(tables, host.models, cuda) or driver_plan(tables, host.models, None)
    if plan is None or (
        host.driver and plan.branch.last_known <= host.driver and found.reasons[0] == "driver_too_old_for_cuda"
    ):
        return ""
    package = tables.compat.get(f"{cuda.version.major}.0") if cuda else None
    if (
        found.reasons == ("driver_too_old_for_cuda",)
        and package
        and host.driver
        and all(gpu.kind == "datacenter" for gpu in host.models)
        and accepts_base(tables, package, host.driver.major)[0]
    ):
        return f"{install(plan)}, or keep the driver and install {package.name}"
    return install(plan)


def _or(first: str, second: str) -> str:
    return (
        ", or ".join(text for text in (first, second) if text)
        or "no driver and no wheel known serves this: change the wish"
    )
