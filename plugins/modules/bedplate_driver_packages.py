#!/usr/bin/python
# Copyright: The Bedplate developers
# SPDX-License-Identifier: Apache-2.0
"""The packages of the NVIDIA driver, in one transaction that can be taken back."""

from __future__ import annotations

DOCUMENTATION = r"""
module: bedplate_driver_packages
short_description: Install, keep, hold or bring back the packages of one NVIDIA driver
description:
  - Waits for the package manager's lock, finishes what an interrupted dpkg left, adds the package source, chooses one version that
    all packages have, keeps a copy of them, installs them from that copy, sees that the kernel module was built, removes another
    branch or flavour, pins and holds the driver, and proves by simulated upgrades that nothing would touch it.
  - In check mode it says in words what it would do.
options:
  state:
    description:
      - C(present) installs what is missing; C(newest) takes the newest version of the branch; C(held) holds what is there;
        C(prepared) keeps copies of the installed driver (O(former_version)), fetches the newest of the branch and tells whether
        anything would change; C(restored) brings back the driver kept in O(folder); C(fetched) (apt alone) only brings what an
        installation would take into apt's cache, for another server.
    type: str
    choices: [present, newest, held, prepared, restored, fetched]
    default: present
  manager:
    description: The package manager.
    type: str
    choices: [apt, dnf]
    default: apt
  packages:
    description: The package set, as the filter C(driver_plan) gives it.
    type: dict
    default: {}
  branch:
    description: Driver branch, as C("580").
    type: str
  version:
    description: Exact driver version. Without it the newest of the branch that all packages have.
    type: str
  at_least:
    description: Oldest version that will do.
    type: str
  flavour:
    description: Flavour of the kernel modules.
    type: str
  source:
    description: Name of the package source, noted beside the kept packages.
    type: str
  former_version:
    description: Version of the driver that works now, to be kept.
    type: str
  former_flavour:
    description: Its flavour.
    type: str
  former_source:
    description: Its source.
    type: str
  kernel:
    description: Release of the kernel the modules are for.
    type: str
  follow:
    description: Header packages to install with a kernel package that is installed.
    type: dict
    default: {}
  components:
    description: Components of the distribution's own mirrors the packages are in.
    type: list
    elements: str
    default: []
  origins:
    description: How the distribution's repositories call themselves.
    type: list
    elements: str
    default: []
  repository:
    description: NVIDIA's repository as C(url), C(key_url), C(fingerprint).
    type: dict
  hold:
    description: Whether the driver is pinned and held.
    type: bool
    default: true
  hold_files:
    description: Further files that keep other programs from upgrading the driver, path and content.
    type: dict
    default: {}
  boot_files:
    description: Files the next boot reads, path and content; written once the module is built. The initramfs is rebuilt after a change.
    type: dict
    default: {}
  secure_boot:
    description: Whether the firmware loads only signed modules.
    type: bool
    default: false
  signing_keys:
    description: Certificates DKMS may sign with; one must be enrolled under Secure Boot.
    type: list
    elements: path
    default: []
  root:
    description: Where packages are kept.
    type: path
    default: /var/lib/bedplate/driver
  folder:
    description: The kept driver to bring back.
    type: path
  wait:
    description: Seconds to wait for another package manager to finish.
    type: int
    default: 600
  path:
    description: Folder in front of PATH. A test gives recorded commands.
    type: str
    default: ""
author: The Bedplate developers
"""

EXAMPLES = r"""
- name: Install the driver
  bedplate_driver_packages:
    branch: "535"
    flavour: proprietary
    kernel: 6.1.0-41-amd64
    packages: {versioned: [nvidia-kernel-dkms, libcuda1, nvidia-smi], helpers: [], first: [], rivals: [], headers: [], prebuilt: false}
"""

RETURN = r"""
version:
  description: Version of the driver; null where there is none.
  returned: always
  type: str
packages:
  description: Installed driver packages with their versions.
  returned: always
  type: dict
held:
  description: Whether all of them are held.
  returned: always
  type: bool
since_boot:
  description: Whether a driver was installed since the last boot, which cannot be loaded yet.
  returned: always
  type: bool
target:
  description: The version that would be installed.
  returned: state is prepared or fetched
  type: str
due:
  description: Whether the driver would change.
  returned: state is prepared
  type: bool
former:
  description: The kept driver as version, flavour and folder; empty where there is none.
  returned: state is prepared
  type: dict
did:
  description: What was done, or in check mode would be, in words.
  returned: always
  type: list
  elements: str
"""

import os
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.bedplate.apt import Refused
from ansible.module_utils.bedplate.apt_change import AptChange
from ansible.module_utils.bedplate.dnf_driver import DnfDriver
from ansible.module_utils.bedplate.driver_boot import prepare_boot


def main():
    text, table, names = (
        {"type": "str"},
        {"type": "dict", "default": {}},
        {"type": "list", "elements": "str", "default": []},
    )
    module = AnsibleModule(
        argument_spec={
            "state": {
                "type": "str",
                "default": "present",
                "choices": ["present", "newest", "held", "prepared", "restored", "fetched"],
            },
            "manager": {"type": "str", "default": "apt", "choices": ["apt", "dnf"]},
            "packages": table,
            "branch": text,
            "version": text,
            "at_least": text,
            "flavour": text,
            "source": text,
            "former_version": text,
            "former_flavour": text,
            "former_source": text,
            "kernel": text,
            "follow": table,
            "components": names,
            "origins": names,
            "repository": {"type": "dict"},
            "hold": {"type": "bool", "default": True},
            "hold_files": table,
            "boot_files": table,
            "secure_boot": {"type": "bool", "default": False},
            "signing_keys": {"type": "list", "elements": "path", "default": []},
            "root": {"type": "path", "default": "/var/lib/bedplate/driver"},
            "folder": {"type": "path"},
            "wait": {"type": "int", "default": 600},
            "path": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    wanted = {**module.params, "packages": {**EMPTY, **module.params["packages"]}}
    if wanted["path"]:
        os.environ["PATH"] = wanted["path"] + os.pathsep + os.environ["PATH"]
    driver = (DnfDriver if wanted["manager"] == "dnf" else AptChange)(wanted, module.check_mode)
    actions = {
        "present": lambda: driver.ensure(newest=False),
        "newest": lambda: driver.ensure(newest=True),
        "held": driver.hold,
        "prepared": driver.prepare,
        "restored": lambda: driver.restore(Path(wanted["folder"])),
        "fetched": lambda: driver.fetch(),
    }
    try:
        result = actions[wanted["state"]]()
        if wanted["state"] in ("present", "newest", "restored"):
            prepare_boot(
                wanted, result["version"], driver.modules_ready(result["version"]), result["did"], module.check_mode
            )
    except Refused as refused:
        module.fail_json(msg=str(refused), changed=bool(driver.log.did), did=driver.log.did)
    module.exit_json(changed=bool(result["did"]), **result)


EMPTY = {"versioned": [], "helpers": [], "first": [], "rivals": [], "headers": [], "prebuilt": False, "stream": None}

if __name__ == "__main__":
    main()
