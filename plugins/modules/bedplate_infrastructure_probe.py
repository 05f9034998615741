#!/usr/bin/python
# Copyright: The Bedplate developers
# SPDX-License-Identifier: Apache-2.0
"""Everything the infrastructure layer needs to know about a host, in one call. Writes nothing."""

from __future__ import annotations

DOCUMENTATION = r"""
module: bedplate_infrastructure_probe
short_description: Read hardware, driver, disk and ports of a server
description:
  - Reads what the roles C(preflight), C(nvidia_driver) and C(cuda_match) decide on. Changes nothing and needs no driver.
options:
  disk_path:
    description: Path whose file system's free space is reported; it need not exist yet.
    type: path
    required: true
  proc:
    description: Where to find the proc file system. A test gives a recorded tree.
    type: path
    default: /proc
  sys:
    description: Where to find the sys file system. A test gives a recorded tree.
    type: path
    default: /sys
author: The Bedplate developers
"""

EXAMPLES = r"""
- name: Read the hardware
  bedplate_infrastructure_probe:
    disk_path: /opt/bedplate
"""

RETURN = r"""
probe:
  description: What was found; C(null) where a thing is absent.
  returned: always
  type: dict
  sample:
    kernel: 6.1.0-41-amd64
    memory_bytes: 67430424576
    disk_free_bytes: 812345678848
    systemd: true
    gpus: [{address: "0000:17:00.0", pci_id: "10de:2330"}]
    nvidia_module: {version: 580.95.05, flavour: open}
    listeners: [{port: 443, process: nginx}]
"""

import re
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.bedplate.hostfacts import free_bytes, nvidia_gpus, read_text
from ansible.module_utils.bedplate.listeners import listeners


def memory_bytes(proc):
    """Installed memory, in bytes (MemTotal counts KiB)."""
    found = re.search(r"^MemTotal:\s+(\d+) kB", read_text(proc / "meminfo") or "", re.MULTILINE)
    return int(found[1]) * 1024 if found else None


def nvidia_module(proc):
    """Version and flavour (open, proprietary) of the loaded NVIDIA kernel module, or None."""
    text = read_text(proc / "driver/nvidia/version")
    found = re.search(r"NVRM version:.*?\s(\d+\.\d+(?:\.\d+)?)\s", text or "")
    if not found:
        return None
    return {"version": found[1], "flavour": "open" if "Open Kernel Module" in text else "proprietary"}


def main():
    module = AnsibleModule(
        argument_spec={
            "disk_path": {"type": "path", "required": True},
            "proc": {"type": "path", "default": "/proc"},
            "sys": {"type": "path", "default": "/sys"},
        },
        supports_check_mode=True,
    )
    proc, sys = Path(module.params["proc"]), Path(module.params["sys"])
    probe = {
        "kernel": (read_text(proc / "sys/kernel/osrelease") or "").strip() or None,
        "memory_bytes": memory_bytes(proc),
        "disk_free_bytes": free_bytes(module.params["disk_path"]),
        "systemd": (read_text(proc / "1/comm") or "").strip() == "systemd",
        "gpus": nvidia_gpus(sys),
        "nvidia_module": nvidia_module(proc),
        "listeners": listeners(proc),
    }
    module.exit_json(changed=False, probe=probe)


if __name__ == "__main__":
    main()
