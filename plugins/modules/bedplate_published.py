#!/usr/bin/python
# Copyright: The Bedplate developers
# SPDX-License-Identifier: Apache-2.0
"""List, verify and prune what stands on a server by revision: models, releases of the service, builds of the page."""

from __future__ import annotations

DOCUMENTATION = r"""
module: bedplate_published
short_description: List, verify and prune models, releases and page builds
description:
  - C(listed) tells what there is, how large it is and what uses it. C(verified) also reads every byte of the models and compares it with
    their manifests, without any connection. C(pruned) removes the named folders, if still nothing uses them.
options:
  state:
    description: What to do.
    type: str
    choices: [listed, verified, pruned]
    default: listed
  paths:
    description: Folders to remove (C(pruned)), as C(listed) named them.
    type: list
    elements: path
    default: []
  root:
    description: Bedplate's root.
    type: path
    default: /opt/bedplate
  etc:
    description: Folder of its configuration.
    type: path
    default: /etc/bedplate
  state_folder:
    description: Folder of its state.
    type: path
    default: /var/lib/bedplate
  receipt:
    description: The receipt.
    type: path
    default: /etc/ansible/facts.d/bedplate.fact
  units:
    description: Folder of the units.
    type: path
    default: /etc/systemd/system
  run:
    description: Folder of the transfers under way.
    type: path
    default: /run/bedplate-fetch
author: The Bedplate developers
"""

EXAMPLES = r"""
- name: See what nothing uses
  bedplate_published:
  register: found
"""

RETURN = r"""
items:
  description: What there is; C(why) is empty for what nothing uses, C(damaged) names wrong files (C(verified)).
  returned: always
  type: list
removed:
  description: The folders that were removed.
  returned: when state is pruned
  type: list
"""

import os
import shutil
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.bedplate.hostfacts import read_json
from ansible.module_utils.bedplate.manifest import damaged_files
from ansible.module_utils.bedplate.published import published, users


def damaged(item):
    """Files of a model that are absent or wrong; a model without a manifest cannot be proven at all."""
    manifest = read_json(Path(item["path"]) / "manifest.json")
    if not isinstance(manifest, dict):
        return ["manifest.json"]
    return damaged_files(item["path"], manifest["files"])


def remove(item):
    """The folder and the links to it. Its folders are read-only."""
    path = Path(item["path"])
    for link in item.get("links", []):
        (path.parent / link).unlink()
    gone = path.with_name(f".{path.name}.gone")
    path.chmod(0o755)
    path.rename(gone)
    for folder, _, _ in os.walk(gone):
        os.chmod(folder, 0o755)
    shutil.rmtree(gone)


def main():
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["listed", "verified", "pruned"], "default": "listed"},
            "paths": {"type": "list", "elements": "path", "default": []},
            "root": {"type": "path", "default": "/opt/bedplate"},
            "etc": {"type": "path", "default": "/etc/bedplate"},
            "state_folder": {"type": "path", "default": "/var/lib/bedplate"},
            "receipt": {"type": "path", "default": "/etc/ansible/facts.d/bedplate.fact"},
            "units": {"type": "path", "default": "/etc/systemd/system"},
            "run": {"type": "path", "default": "/run/bedplate-fetch"},
        },
        supports_check_mode=True,
    )
    ask = module.params
    named = users(Path(ask["etc"]), Path(ask["state_folder"]), Path(ask["receipt"]), Path(ask["units"]))
    fetching = [place.name for place in Path(ask["run"]).glob("*") if (place / "job.json").exists()]
    items = published(Path(ask["root"]), named, fetching)
    if ask["state"] == "verified":
        items = [{**item, "damaged": damaged(item) if item["kind"] == "model" else []} for item in items]
    if ask["state"] != "pruned":
        module.exit_json(changed=False, items=items)
    doomed = [item for item in items if item["path"] in ask["paths"] and not item["why"]]
    if not module.check_mode:
        for item in doomed:
            remove(item)
    module.exit_json(changed=bool(doomed), items=items, removed=[item["path"] for item in doomed])


if __name__ == "__main__":
    main()
