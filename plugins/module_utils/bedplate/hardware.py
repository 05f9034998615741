"""All a probe tells of a host's GPUs and their driver, in one reading. A host without an NVIDIA GPU is asked almost nothing.

Runs on the target: standard library only, Python 3.9 or newer, never writes.
"""

from __future__ import annotations

import os
import re
from typing import Any

from ansible.module_utils.bedplate.drivermodule import (
    dkms,
    headers,
    loaded_module,
    module_on_disk,
    nouveau,
    secure_boot,
    user_space,
)
from ansible.module_utils.bedplate.gpus import described_gpus, device_users, nvidia_gpus, nvswitches
from ansible.module_utils.bedplate.hostfacts import read_text, unit_states
from ansible.module_utils.bedplate.kernellog import failure_signatures, kernel_log, last_xid
from ansible.module_utils.bedplate.machine import Machine
from ansible.module_utils.bedplate.packages import cuda_compat, driver_packages, package_manager, package_version

PERSISTENCED, FABRIC_MANAGER = "nvidia-persistenced.service", "nvidia-fabricmanager.service"
# What a host without a GPU answers to the questions it is not asked.
_NOT_ASKED: dict[str, Any] = {
    "nvidia_module_on_disk": None,
    "nvidia_userspace": None,
    "nvidia_smi": None,
    "dkms": [],
    "packages": {},
    "half_configured": [],
    "holds": [],
    "compute_processes": [],
    "device_users": [],
    "fabric_manager": {"version": None, "unit": {}},
    "persistenced": {},
    "last_xid": None,
    "failure_signatures": [],
    "cuda_compat": None,
}


def hardware(machine: Machine) -> dict[str, Any]:
    """The part of the probe that is about hardware and driver; every key is always there."""
    kernel = (read_text(machine.proc / "sys/kernel/osrelease") or "").strip() or None
    found: dict[str, Any] = {
        "kernel": kernel,
        "boot_id": (read_text(machine.proc / "sys/kernel/random/boot_id") or "").strip() or None,
        "glibc": _glibc(),
        "gpus": nvidia_gpus(machine.sys),
        "nvswitches": nvswitches(machine.sys),
        "nvidia_module": loaded_module(machine.proc),
        "nouveau": nouveau(machine),
        "secure_boot": secure_boot(machine.sys),
        "headers": bool(kernel) and headers(machine.root, kernel or ""),
        "package_manager": package_manager(machine),
        **_NOT_ASKED,
    }
    if found["gpus"]:
        found.update(_driver(machine, kernel or os.uname().release))
    loaded, on_disk = found["nvidia_module"], found["nvidia_module_on_disk"]
    stale = bool(loaded and on_disk) and loaded["version"] != on_disk["version"]
    found["reboot_required"] = stale or machine.below("run/reboot-required").exists()
    return found


def _driver(machine: Machine, kernel: str) -> dict[str, Any]:
    log = kernel_log(machine)
    packages = driver_packages(machine, package_manager(machine))
    units = unit_states([PERSISTENCED, FABRIC_MANAGER], machine)
    return {
        **described_gpus(machine),
        **packages,
        "nvidia_module_on_disk": module_on_disk(machine, kernel),
        "nvidia_userspace": user_space(machine.root),
        "dkms": dkms(machine),
        "device_users": device_users(machine),
        "persistenced": units[PERSISTENCED],
        "fabric_manager": {
            "version": _fabric_manager_version(machine, packages["packages"]),
            "unit": units[FABRIC_MANAGER],
        },
        "last_xid": last_xid(log),
        "failure_signatures": failure_signatures(log),
        "cuda_compat": cuda_compat(packages["packages"]),
    }


def _fabric_manager_version(machine: Machine, packages: dict[str, str]) -> str | None:
    """The package's version; without a package, what the program says of itself."""
    for name in ("nvidia-fabricmanager", "nvidia-fabric-manager"):
        if packaged := package_version(packages, name):
            return str(packaged)
    found = re.search(r"(\d{3}\.\d+(?:\.\d+)?)", machine.ask(["nv-fabricmanager", "--version"]).out)
    return found[1] if found else None


def _glibc() -> str | None:
    """The C library's version, 2.36; None where it is another one."""
    try:
        told = str(os.confstr("CS_GNU_LIBC_VERSION"))
    except (ValueError, OSError):
        return None
    return told.partition("glibc ")[2] or None
