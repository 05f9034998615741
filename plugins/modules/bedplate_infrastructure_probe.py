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
  - On a host without an NVIDIA GPU it runs no command at all.
options:
  disk_path:
    description: Path whose file system's free space is reported; it need not exist yet.
    type: path
    required: true
  machine:
    description:
      - Where to look at hardware and its driver; C(bedplate_machine). A test gives a recorded tree.
      - Memory, process 1, disk and ports are always those of the server itself.
    type: dict
    suboptions:
      proc: {type: path, default: /proc, description: The proc file system.}
      sys: {type: path, default: /sys, description: The sys file system.}
      dev: {type: path, default: /dev, description: The device nodes.}
      path: {type: str, default: "", description: "Folder put in front of PATH for the commands asked (nvidia-smi, modinfo, journalctl)."}
      root: {type: path, default: /, description: "The root file system: libraries, kernel headers, modprobe.d."}
author: The Bedplate developers
"""

EXAMPLES = r"""
- name: Read the hardware
  bedplate_infrastructure_probe:
    disk_path: /opt/bedplate
"""

RETURN = r"""
probe:
  description:
    - What was found; C(null) or empty where a thing is absent or was not asked, because there is no GPU.
    - Of a GPU, address and pci_id come from the PCI bus; the rest from nvidia-smi where it works. C(driver) is the kernel driver bound to it.
    - C(nvidia_module) is loaded; C(nvidia_module_on_disk) is what the running kernel would load (signer null means unsigned).
    - C(cpu_bfloat16) is true where the CPU has products of bfloat16 (C(avx512_bf16) or C(amx_bf16)).
    - C(reboot_required) is true when the system asks for one, or when the module on disk is another version than the loaded one.
  returned: always
  type: dict
  sample:
    memory_bytes: 67430424576
    cpu_bfloat16: true
    disk_free_bytes: 812345678848
    systemd: true
    listeners: [{port: 443, process: nginx}]
    kernel: 6.1.0-41-amd64
    boot_id: 5c2d9a0e-0c0f-4f0e-9a53-3a1f4b1d2c11
    glibc: "2.36"
    gpus:
      - {address: "0000:17:00.0", pci_id: "10de:2330", driver: nvidia, name: NVIDIA H100 80GB HBM3, memory_bytes: 85520809984,
         uuid: GPU-..., compute_cap: "9.0", mig: false, mig_devices: [], fabric_state: Completed}
    nvswitches: [{address: "0000:05:00.0", pci_id: "10de:22a3"}]
    nvidia_module: {version: 580.95.05, flavour: open}
    nvidia_module_on_disk: {version: 580.95.05, flavour: open, kernel: 6.1.0-41-amd64, signer: null}
    nvidia_userspace: {version: 580.95.05, libcuda: 580.95.05, libnvidia_ml: 580.95.05}
    nvidia_smi: {path: /usr/bin/nvidia-smi, rc: 0, message: null, driver: 580.95.05, cuda: "13.0"}
    nouveau: {loaded: false, blacklisted: true}
    secure_boot: false
    headers: true
    dkms: [{module: nvidia, version: 580.95.05, kernel: 6.1.0-41-amd64, state: installed}]
    package_manager: apt
    packages: {nvidia-open: 580.95.05-1}
    half_configured: []
    holds: [nvidia-open]
    compute_processes: [{pid: 4242, name: python}]
    device_users: [{pid: 4242, name: python}]
    fabric_manager: {version: 580.95.05, unit: {load: loaded, active: active, sub: running, enabled: enabled}}
    persistenced: {load: loaded, active: active, sub: running, enabled: enabled}
    last_xid: {code: 79, text: "Xid (PCI:0000:17:00): 79, GPU has fallen off the bus."}
    failure_signatures: []
    cuda_compat: {package: cuda-compat-13-0, version: 580.95.05}
    reboot_required: false
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.bedplate.hardware import hardware
from ansible.module_utils.bedplate.hostfacts import computes_bfloat16, free_bytes, memory_bytes, read_text
from ansible.module_utils.bedplate.listeners import listeners
from ansible.module_utils.bedplate.machine import MACHINE_OPTION, Machine


def main():
    module = AnsibleModule(
        argument_spec={"disk_path": {"type": "path", "required": True}, "machine": MACHINE_OPTION},
        supports_check_mode=True,
    )
    probe = {
        "memory_bytes": memory_bytes(),
        "cpu_bfloat16": computes_bfloat16(),
        "disk_free_bytes": free_bytes(module.params["disk_path"]),
        "systemd": (read_text("/proc/1/comm") or "").strip() == "systemd",
        "listeners": listeners(Path("/proc")),
        **hardware(Machine.of(module.params["machine"])),
    }
    module.exit_json(changed=False, probe=probe)


if __name__ == "__main__":
    main()
