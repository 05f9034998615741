#!/usr/bin/python
# Copyright: The Bedplate developers
# SPDX-License-Identifier: Apache-2.0
"""Publish a directory tree: beside the live one, proven byte by byte, then switched to."""

from __future__ import annotations

DOCUMENTATION = r"""
module: bedplate_tree
short_description: Publish a directory tree that is complete and proven, or not at all
description:
  - C(state=incoming) makes a folder next to the destination for the copy to fill. What an earlier, interrupted copy left there
    stays, and so do the good files of a damaged destination, so only what differs has to travel.
  - C(state=present) proves every byte of the incoming folder against the manifest, makes it root's and read-only, gives it its
    name in one rename and points the link at it. Stopped anywhere, it can be run again.
  - C(state=verified) reads every byte of a published tree, reports damaged files and takes the manifest away from a damaged tree,
    so that no later run takes it for whole.
options:
  state:
    description: What to do.
    type: str
    choices: [incoming, present, verified]
    required: true
  dest:
    description: The tree's final path. It carries the revision in its name and never changes afterwards.
    type: path
    required: true
  manifest:
    description:
      - What the tree has to hold, C(revision) and C(files) with C(path), C(size) and C(sha256) each.
      - Default for C(state=verified) is the tree's own.
    type: dict
  link:
    description: Symbolic link to point at the tree, C(state=present) only.
    type: path
  manifest_name:
    description: File in the tree that keeps the manifest.
    type: str
    default: manifest.json
author: The Bedplate developers
"""

EXAMPLES = r"""
- name: Verify every byte, then switch to it
  bedplate_tree:
    state: present
    dest: /opt/bedplate/models/bedplate--tutor@0123456789ab
    manifest: "{{ manifest }}"
    link: /opt/bedplate/models/tutor
"""

RETURN = r"""
incoming:
  description: The folder the copy has to fill, C(state=incoming).
  returned: success
  type: str
damaged:
  description: Paths that are absent or differ from the manifest, C(state=verified).
  returned: success
  type: list
"""

import os
import shutil
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.bedplate.hostfacts import link_target, read_json
from ansible.module_utils.bedplate.manifest import damaged_files, is_untouched
from ansible.module_utils.bedplate.refusal import refusal
from ansible.module_utils.bedplate.tree import (
    close_incoming,
    incoming_of,
    open_incoming,
    point,
    publish,
    relative_target,
)


def login_user():
    """Ids of whoever logged in: the copy runs as that user, this module as root."""
    return int(os.environ.get("SUDO_UID", os.getuid())), int(os.environ.get("SUDO_GID", os.getgid()))


def incoming(module, dest, manifest):
    if not module.check_mode:
        open_incoming(dest, manifest, login_user())
    module.exit_json(changed=True, incoming=str(incoming_of(dest)))


def verified(module, dest, manifest):
    if not manifest:
        module.fail_json(
            msg=refusal("BP521", "tree not published", str(dest), "a tree with its manifest", "run the playbook again.")
        )
    damaged = damaged_files(dest, manifest["files"])
    if damaged and not module.check_mode:
        (dest / module.params["manifest_name"]).unlink(missing_ok=True)
    module.exit_json(changed=bool(damaged), damaged=damaged)


def present(module, dest, manifest):
    name, link = module.params["manifest_name"], module.params["link"] and Path(module.params["link"])
    whole = is_untouched(dest, read_json(dest / name))
    linked = not link or link_target(link) == relative_target(link, dest)
    if not module.check_mode:
        if not whole:
            damaged = close_incoming(dest, manifest)
            if damaged:
                found = f"{len(damaged)} file(s), {', '.join(damaged[:3])}"
                fix = "run the playbook again: only these are copied again. If it stays, the source changes while it is read."
                module.fail_json(
                    msg=refusal(
                        "BP520", f"copy of {dest.name} differs from its source", found, "the manifest's sha256", fix
                    )
                )
            publish(dest, manifest, name)
        shutil.rmtree(incoming_of(dest), ignore_errors=True)
        if not linked:
            point(link, dest)
    module.exit_json(changed=not whole or not linked)


def main():
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["incoming", "present", "verified"], "required": True},
            "dest": {"type": "path", "required": True},
            "manifest": {"type": "dict"},
            "link": {"type": "path"},
            "manifest_name": {"type": "str", "default": "manifest.json"},
        },
        required_if=[("state", "incoming", ["manifest"]), ("state", "present", ["manifest"])],
        supports_check_mode=True,
    )
    dest = Path(module.params["dest"])
    manifest = module.params["manifest"] or read_json(dest / module.params["manifest_name"])
    {"incoming": incoming, "verified": verified, "present": present}[module.params["state"]](module, dest, manifest)


if __name__ == "__main__":
    main()
