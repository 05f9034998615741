"""What the kernel's log of this boot says about the GPUs. Runs on the target: standard library only, never writes."""

from __future__ import annotations

import re
from typing import Any

from ansible.module_utils.bedplate.machine import NOT_FOUND, Machine

# Lines that tell why a driver does not work; what they mean is in stack/data/drivers.yml (failure_signatures).
SIGNATURES = (
    "is not supported by open nvidia.ko because it does not include the required GPU System Processor",
    "supported through the NVIDIA 580.xx Legacy drivers",
    "supported through the NVIDIA 470.xx Legacy drivers",
    "requires use of the NVIDIA open kernel modules",
    "RmInitAdapter failed",
)
# How the kernel says that Secure Boot kept a module out.
REFUSED_MODULE = (
    "Loading of unsigned module is rejected",
    "Loading of module with unavailable key is rejected",
    "unsigned module loading is restricted",
)
_LINES = "NVRM|nvidia|nouveau|module is rejected|unavailable key is rejected|unsigned module"


def kernel_log(machine: Machine) -> list[str]:
    """The kernel's lines about GPUs and refused modules since boot, oldest first."""
    answer = machine.ask(["journalctl", "-k", "-b", "--no-pager", "-o", "cat", "-g", _LINES])
    if answer.rc == NOT_FOUND or (answer.rc != 0 and answer.err):
        answer = machine.ask(["dmesg"])
    return [line for line in answer.out.splitlines() if re.search(_LINES, line)]


def last_xid(log: list[str]) -> dict[str, Any] | None:
    """The last error a GPU reported, {code, text}, or None. Codes: NVIDIA's "XID Errors"."""
    found = None
    for line in log:
        # NVRM: Xid (PCI:0000:17:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.
        found = re.search(r"NVRM: (Xid \(PCI:[^)]*\): (\d+),.*)", line) or found
    return {"code": int(found[2]), "text": found[1].strip()} if found else None


def failure_signatures(log: list[str]) -> list[str]:
    """The known lines that are in the log, each once."""
    return [known for known in (*SIGNATURES, *REFUSED_MODULE) if any(known in line for line in log)]
