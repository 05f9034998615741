#!/usr/bin/python
# Copyright: The Bedplate developers
# SPDX-License-Identifier: Apache-2.0
"""Everything the roles conda and pytorch need to know about a host, in one call. Writes nothing."""

from __future__ import annotations

DOCUMENTATION = r"""
module: bedplate_base_probe
short_description: Read conda, the Python environments and uv of a server
description:
  - Reads what the roles C(conda) and C(pytorch) decide on. Runs no conda, so it takes milliseconds and cannot change anything.
options:
  root:
    description: Folder of everything Bedplate installs.
    type: path
    required: true
  packages:
    description: Debian packages whose versions are asked.
    type: list
    elements: str
    default: []
  profile:
    description: Link in C(/etc/profile.d) that gives login shells the command C(conda).
    type: path
    default: /etc/profile.d/bedplate-conda.sh
  machine:
    description: Where to look at hardware; C(bedplate_machine). A test gives a recorded tree.
    type: dict
    suboptions:
      proc: {type: path, default: /proc, description: The proc file system.}
      sys: {type: path, default: /sys, description: The sys file system.}
      dev: {type: path, default: /dev, description: The device nodes.}
      path: {type: str, default: "", description: Folder put in front of PATH.}
      root: {type: path, default: /, description: The root file system.}
author: The Bedplate developers
"""

EXAMPLES = r"""
- name: Read conda and the environments
  bedplate_base_probe:
    root: /opt/bedplate
"""

RETURN = r"""
probe:
  description: What was found; C(null) where a thing is absent.
  returned: always
  type: dict
  sample:
    conda:
      prefix: /opt/bedplate/conda-848194851a98
      version: 26.3.2
      stamp: {installer_sha256: 848194..., version: 26.3.2}
      condarc_sha256: 5f2c...
    installations: [conda-848194851a98]
    environments:
      /opt/bedplate/envs/inference-0123456789ab:
        {python: 3.11.9, channels: [...], packages: 21, hard_linked: true, pristine: null, stamp: {...}, stamped_at: 1764000000}
    links: {inference: /opt/bedplate/envs/inference-0123456789ab}
    uv: [0.13.9]
    running: [/opt/bedplate/envs/inference-0123456789ab]
    profile: /opt/bedplate/conda/etc/profile.d/conda.sh
    gpus: [{address: "0000:17:00.0", pci_id: "10de:2330"}]
    packages: {ca-certificates: "20230311"}
    disk_free_bytes: 812345678848
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.bedplate.condameta import installed_conda, packages_of
from ansible.module_utils.bedplate.gpus import nvidia_gpus
from ansible.module_utils.bedplate.hostfacts import (
    dpkg_versions,
    file_sha256,
    free_bytes,
    link_target,
    read_json,
)
from ansible.module_utils.bedplate.machine import MACHINE_OPTION


def conda_in_use(root):
    """The installation the link <root>/conda leads to, or None."""
    target = link_target(root / "conda")
    if target is None:
        return None
    prefix = root / target
    return {
        "prefix": str(prefix),
        "version": installed_conda(prefix),
        "stamp": read_json(prefix / ".bedplate-stamp.json"),
        "condarc_sha256": file_sha256(prefix / ".condarc"),
    }


def modified_at(path):
    return int(path.stat().st_mtime) if path.exists() else None


def environment(prefix):
    """An environment as it is on disk. `pristine`: what conda made, nothing else yet; `stamp`: complete and proven."""
    stamp = prefix / ".bedplate-stamp.json"
    return {
        **packages_of(prefix),
        "pristine": read_json(prefix / ".bedplate-conda.json"),
        "stamp": read_json(stamp),
        "stamped_at": modified_at(stamp),
    }


def running_environments(envs):
    """Prefixes that programs run from at this moment."""
    programs = (link_target(process / "exe") for process in Path("/proc").glob("[0-9]*"))
    inside = (Path(program).relative_to(envs) for program in programs if program and program.startswith(f"{envs}/"))
    return sorted({str(envs / place.parts[0]) for place in inside})


def main():
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "required": True},
            "packages": {"type": "list", "elements": "str", "default": []},
            "profile": {"type": "path", "default": "/etc/profile.d/bedplate-conda.sh"},
            "machine": MACHINE_OPTION,
        },
        supports_check_mode=True,
    )
    root = Path(module.params["root"])
    entries = sorted((root / "envs").glob("*"))
    probe = {
        "conda": conda_in_use(root),
        "installations": sorted(path.name for path in root.glob("conda-*") if path.is_dir()),
        "environments": {str(path): environment(path) for path in entries if path.is_dir() and not path.is_symlink()},
        "links": {path.name: str(path.parent / (link_target(path) or "")) for path in entries if path.is_symlink()},
        "running": running_environments(root / "envs"),
        "uv": sorted(path.name[3:] for path in (root / "tools").glob("uv-*") if (path / "bin/uv").is_file()),
        "profile": link_target(module.params["profile"]),
        "gpus": nvidia_gpus(module.params["machine"]["sys"]),
        "packages": dpkg_versions(module.params["packages"]),
        "disk_free_bytes": free_bytes(root),
    }
    module.exit_json(changed=False, probe=probe)


if __name__ == "__main__":
    main()
