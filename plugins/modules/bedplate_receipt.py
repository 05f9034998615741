#!/usr/bin/python
# Copyright: The Bedplate developers
# SPDX-License-Identifier: Apache-2.0
"""Keep the receipt, what was decided and installed on this host, read back as ansible_local.bedplate."""

from __future__ import annotations

DOCUMENTATION = r"""
module: bedplate_receipt
short_description: Update sections of the host's receipt
description:
  - Merges the given sections into C(/etc/ansible/facts.d/bedplate.fact). Sections not given stay as they are.
  - A receipt holds no times, so an unchanged host has an unchanged receipt.
options:
  sections:
    description: One dictionary per role, by its name. A section replaces the earlier one whole.
    type: dict
    required: true
  path:
    description: The receipt.
    type: path
    default: /etc/ansible/facts.d/bedplate.fact
author: The Bedplate developers
"""

EXAMPLES = r"""
- name: Write the receipt of this layer
  bedplate_receipt:
    sections:
      conda: {version: 26.3.2}
"""

RETURN = r"""
receipt:
  description: The whole receipt as it is, or in check mode as it would be.
  returned: always
  type: dict
"""

import json
import os
import tempfile
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.bedplate.hostfacts import read_json, read_text


def main():
    module = AnsibleModule(
        argument_spec={
            "sections": {"type": "dict", "required": True},
            "path": {"type": "path", "default": "/etc/ansible/facts.d/bedplate.fact"},
        },
        supports_check_mode=True,
    )
    path = Path(module.params["path"])
    before = read_json(path)
    receipt = {**(before if isinstance(before, dict) else {}), **module.params["sections"]}
    text = json.dumps(receipt, indent=2, sort_keys=True) + "\n"
    changed = text != read_text(path)
    if changed and not module.check_mode:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=module.tmpdir)
        with os.fdopen(handle, "w") as stream:
            stream.write(text)
        os.chmod(temporary, 0o644)
        module.atomic_move(temporary, str(path))
    module.exit_json(changed=changed, receipt=receipt)


if __name__ == "__main__":
    main()
