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
      - What the tree has to hold, C(revision) and C(files) with C(path), C(size) and C(sha256) each. Default for C(verified) is the tree's own.
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

import json
import os
import shutil
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.bedplate.hostfacts import link_target, read_json
from ansible.module_utils.bedplate.manifest import damaged_files, is_untouched, stray_paths
from ansible.module_utils.bedplate.refusal import refusal


def login_user():
    """User id of whoever logged in: the copy runs as that user, this module as root."""
    return int(os.environ.get("SUDO_UID", os.getuid())), int(os.environ.get("SUDO_GID", os.getgid()))


def open_incoming(incoming, dest, manifest):
    """Make the folder to copy into, owned by the login user, seeded with the good files of a damaged tree."""
    incoming.mkdir(parents=True, exist_ok=True)
    if dest.is_dir():
        damaged = set(damaged_files(dest, manifest["files"]))
        for entry in manifest["files"]:
            place = incoming / entry["path"]
            if entry["path"] not in damaged and not place.exists():
                place.parent.mkdir(parents=True, exist_ok=True)
                os.link(dest / entry["path"], place)
    user, group = login_user()
    for root, _, names in os.walk(incoming):
        os.chown(root, user, group)
        os.chmod(root, 0o700)
        for place in (Path(root) / name for name in names):
            # A seeded file is the live tree's as well and stays root's.
            if place.lstat().st_nlink == 1:
                os.lchown(place, user, group)


def close_incoming(incoming, manifest):
    """Take the folder over, prove it, make it read-only. Returns the files that are wrong, which are then gone."""
    for root, _, names in os.walk(incoming):
        for place in [root, *(os.path.join(root, name) for name in names)]:
            os.lchown(place, os.getuid(), os.getgid())
    for stray in stray_paths(incoming, manifest["files"]):
        stray.unlink()
    damaged = damaged_files(incoming, manifest["files"], flush=True)
    for path in damaged:
        (incoming / path).unlink(missing_ok=True)
    if damaged:
        return damaged
    for root, _, names in os.walk(incoming, topdown=False):
        if not names and not os.listdir(root):
            os.rmdir(root)
            continue
        for name in names:
            os.chmod(os.path.join(root, name), 0o444)
        os.chmod(root, 0o755)
    return []


def publish(incoming, dest, manifest, manifest_name):
    """Write the manifest with the proven files' times, then give the tree its name."""
    files = [{**entry, "mtime_ns": (incoming / entry["path"]).stat().st_mtime_ns} for entry in manifest["files"]]
    with (incoming / manifest_name).open("w") as stream:
        json.dump({**manifest, "files": files}, stream, indent=1)
        stream.flush()
        os.fsync(stream.fileno())
    (incoming / manifest_name).chmod(0o444)
    damaged = incoming.with_name(incoming.name + ".damaged")
    if dest.exists():
        shutil.rmtree(damaged, ignore_errors=True)
        dest.rename(damaged)
    incoming.rename(dest)
    for root, _, _ in os.walk(dest):
        os.chmod(root, 0o555)
    shutil.rmtree(damaged, ignore_errors=True)
    flush_folder(dest.parent)


def flush_folder(path):
    """Names are on the disk too, before anything relies on them."""
    handle = os.open(path, os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)


def point(link, dest):
    """Switch the link to the tree in one step."""
    link.parent.mkdir(parents=True, exist_ok=True)
    fresh = link.with_name(f".{link.name}.new")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(os.path.relpath(dest, link.parent))
    fresh.replace(link)
    flush_folder(link.parent)


def verified(module, dest, manifest):
    if not manifest:
        module.fail_json(msg=refusal("BP521", "tree not published", str(dest), "a tree with its manifest", "run the playbook again."))
    damaged = damaged_files(dest, manifest["files"])
    if damaged and not module.check_mode:
        (dest / module.params["manifest_name"]).unlink(missing_ok=True)
    module.exit_json(changed=bool(damaged), damaged=damaged)


def present(module, incoming, dest, manifest):
    name, link = module.params["manifest_name"], module.params["link"] and Path(module.params["link"])
    whole = is_untouched(dest, read_json(dest / name))
    linked = not link or link_target(link) == os.path.relpath(dest, link.parent)
    if not module.check_mode:
        if not whole:
            damaged = close_incoming(incoming, manifest)
            if damaged:
                fix = "run the playbook again: only these files are copied again. If it stays, the source changes while it is read."
                module.fail_json(msg=refusal("BP520", "copy differs from its source", ", ".join(damaged[:5]), "the manifest's sha256", fix))
            publish(incoming, dest, manifest, name)
        shutil.rmtree(incoming, ignore_errors=True)
        if not linked:
            point(link, dest)
    module.exit_json(changed=not whole or not linked, damaged=[])


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
    state, dest = module.params["state"], Path(module.params["dest"])
    manifest = module.params["manifest"] or read_json(dest / module.params["manifest_name"])
    incoming = dest.parent / ".incoming" / dest.name
    if state == "verified":
        verified(module, dest, manifest)
    if state == "present":
        present(module, incoming, dest, manifest)
    if not module.check_mode:
        open_incoming(incoming, dest, manifest)
    module.exit_json(changed=True, incoming=str(incoming))


if __name__ == "__main__":
    main()
