#!/usr/bin/python
# Copyright: The Bedplate developers
# SPDX-License-Identifier: Apache-2.0
"""Make a server trust certificate authorities beside those of its distribution."""

from __future__ import annotations

DOCUMENTATION = r"""
module: bedplate_trust
short_description: Trust further certificate authorities
description:
  - Puts each certificate of a PEM bundle into a file of its own under O(folder), removes those that an earlier bundle left, and lets
    C(update-ca-certificates) renew the system's list. An empty bundle removes all of them.
  - Installs the package C(ca-certificates) where it is missing.
options:
  bundle:
    description: Text of the PEM bundle.
    type: str
    required: true
  folder:
    description: Where the distribution looks for further certificates.
    type: path
    default: /usr/local/share/ca-certificates
author: The Bedplate developers
"""

EXAMPLES = r"""
- name: Trust the company's authority
  bedplate_trust:
    bundle: "{{ lookup('ansible.builtin.file', 'company-ca.pem') }}"
"""

RETURN = r"""
certificates:
  description: Names of the files.
  returned: always
  type: list
  elements: str
"""

import os
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.bedplate.hostfacts import read_text
from ansible.module_utils.bedplate.network import TRUSTED, certificates_of
from ansible.module_utils.bedplate.refusal import refusal


def run(module, *argv):
    status, out, err = module.run_command(
        list(argv), environ_update={"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
    )
    if status != 0:
        said = " / ".join((err or out).strip().splitlines()[-3:])
        fix = "repair what it names, then run again."
        module.fail_json(msg=refusal("BP173", "certificates not installed", f"{argv[0]}: {said}", "success", fix))


def main():
    module = AnsibleModule(
        argument_spec={
            "bundle": {"type": "str", "required": True},
            "folder": {"type": "path", "default": "/usr/local/share/ca-certificates"},
        },
        supports_check_mode=True,
    )
    folder = Path(module.params["folder"])
    wanted = certificates_of(module.params["bundle"])
    there = {path.name: read_text(path) for path in folder.glob("bedplate-*.crt")}
    trusted = read_text(TRUSTED) or ""
    # The system's list has each certificate as its file has it; a run that was cut off may have written only the files.
    listed = all(text.strip() in trusted for text in wanted.values())
    if there == wanted and listed:
        module.exit_json(changed=False, certificates=sorted(wanted))
    if not module.check_mode:
        if module.get_bin_path("update-ca-certificates", opt_dirs=["/usr/sbin"]) is None:
            run(module, "apt-get", "update", "-q")
            run(module, "apt-get", "install", "-q", "-y", "--no-install-recommends", "ca-certificates")
        os.umask(0o022)
        folder.mkdir(parents=True, exist_ok=True)
        for name in set(there) - set(wanted):
            (folder / name).unlink()
        for name, text in wanted.items():
            (folder / name).write_text(text, encoding="ascii")
        run(module, "/usr/sbin/update-ca-certificates", "--fresh")
    module.exit_json(changed=True, certificates=sorted(wanted))


if __name__ == "__main__":
    main()
