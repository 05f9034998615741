#!/usr/bin/python
# Copyright: The Bedplate developers
# SPDX-License-Identifier: Apache-2.0
"""Give this server's published models to the other servers of its group, for as long as a play lasts."""

from __future__ import annotations

DOCUMENTATION = r"""
module: bedplate_model_share
short_description: Give published models to the other servers of a group
description:
  - Starts a small file server as a transient, sandboxed systemd unit that serves what the manifests of the published models name, to
    whoever knows the secret it is started with. It ends with C(state=absent), or when nobody has asked for 15 minutes.
options:
  state:
    description: Whether to share.
    type: str
    choices: [present, absent]
    default: present
  folder:
    description: Folder of the published models.
    type: path
    required: true
  port:
    description: TCP port.
    type: int
    required: true
author: The Bedplate developers
"""

EXAMPLES = r"""
- name: Share the models
  bedplate_model_share:
    folder: /opt/bedplate/models
    port: 8469
  register: share
  no_log: true
"""

RETURN = r"""
secret:
  description: What an address has to begin with.
  returned: when state is present
  type: str
"""

import os
import secrets
import shutil
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.bedplate import model_share, program
from ansible.module_utils.bedplate.refusal import refusal

UNIT = "bedplate-share"
PLACE = Path("/run/bedplate-share")
SANDBOX = {
    "Description": "Bedplate gives models to the other servers of the group",
    "DynamicUser": "yes",
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "PrivateTmp": "yes",
    "PrivateDevices": "yes",
    "NoNewPrivileges": "yes",
    "CapabilityBoundingSet": "",
    "RestrictAddressFamilies": "AF_INET AF_INET6 AF_UNIX",
    "MemoryDenyWriteExecute": "yes",
    "SystemCallFilter": "@system-service",
}


def stop(module):
    """True when something was there."""
    module.run_command(["systemctl", "stop", f"{UNIT}.service"])
    module.run_command(["systemctl", "reset-failed", f"{UNIT}.service"])
    there = PLACE.exists()
    shutil.rmtree(PLACE, ignore_errors=True)
    return there


def main():
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "folder": {"type": "path", "required": True},
            "port": {"type": "int", "required": True},
        },
        supports_check_mode=False,
    )
    stopped = stop(module)
    if module.params["state"] == "absent":
        module.exit_json(changed=stopped)
    secret = secrets.token_hex(24)
    PLACE.mkdir(mode=0o755)
    handle = os.open(PLACE / "secret", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as stream:
        stream.write(secret)
    installed = program.install(PLACE, [model_share])
    properties = {**SANDBOX, "LoadCredential": f"secret:{PLACE}/secret"}
    call = program.command(installed, model_share, module.params["folder"], module.params["port"])
    done, said, wrong = module.run_command(program.unit_command(UNIT, properties, call))
    if done != 0:
        fix = "set model_fanout: '' to let every server fetch for itself."
        module.fail_json(
            msg=refusal("BP517", "models cannot be shared", (wrong or said).strip(), "a transient unit", fix)
        )
    module.exit_json(changed=True, secret=secret)


if __name__ == "__main__":
    main()
