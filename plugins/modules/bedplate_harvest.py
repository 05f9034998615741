#!/usr/bin/python
# Copyright: The Bedplate developers
# SPDX-License-Identifier: Apache-2.0
"""Gather in one folder what this server fetched while the roles ran on it, for a bundle."""

from __future__ import annotations

DOCUMENTATION = r"""
module: bedplate_harvest
short_description: Gather what the roles fetched
description:
  - Takes the packages out of apt's and conda's caches, fetches the wheels of the environments' locks as files, takes the conda
    installer and the models that came from a hub, laid out as in a bundle, and notes each one's licence and source.
  - The folder belongs to the login user, who copies it away. It is made anew on every call.
options:
  folder:
    description: Folder to gather in.
    type: path
    required: true
  platform:
    description: What the server is, as C(debian-12-x86_64). What others of its kind can use too goes into C(platforms/<platform>).
    type: str
    required: true
  host:
    description: Name of the host these files were gathered for; what is noted of them goes into C(collected/<host>.json).
    type: str
    required: true
  root:
    description: Folder of everything Bedplate installed.
    type: path
    required: true
  installers:
    description: Folder of the conda installers.
    type: path
    required: true
  installer_urls:
    description: Where the installer came from.
    type: list
    elements: str
    default: []
  package_folders:
    description: Folders with the .deb files that were fetched; by default where apt keeps them.
    type: list
    elements: path
    default: [/var/cache/apt/archives]
  locks:
    description: Locks of Python packages, as C(python) (a program), C(requirements) (their text) and C(wheel_index) (a further index).
    type: list
    elements: dict
    default: []
  index:
    description: Package index instead of the one pip is configured for.
    type: str
    default: ""
  find_links:
    description: Folders or pages with wheels instead of those pip is configured for.
    type: list
    elements: str
    default: []
author: The Bedplate developers
"""

EXAMPLES = r"""
- name: Gather what the roles fetched
  bedplate_harvest:
    folder: /var/cache/bedplate/harvest
    platform: debian-12-x86_64
    host: gpu01
    root: /opt/bedplate
    installers: /var/cache/bedplate/installers
"""

RETURN = r"""
count:
  description: Number of files gathered.
  returned: success
  type: int
bytes:
  description: Their size.
  returned: success
  type: int
"""

import json
import os
import shutil
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.bedplate.harvest import NotHarvested, conda_packages, debs, installers, models, wheels
from ansible.module_utils.bedplate.pipconfig import server_sources


def gather(params, folder):
    part = folder / "platforms" / params["platform"]
    root = Path(params["root"])
    packages = [file for place in params["package_folders"] for file in sorted(Path(place).glob("*.deb"))]
    environments = [path for path in sorted((root / "envs").glob("*")) if path.is_dir() and not path.is_symlink()]
    sources = server_sources(os.environ, params["index"], params["find_links"])
    items = [
        *debs(part, packages),
        *conda_packages(part, environments, [conda / "pkgs" for conda in sorted(root.glob("conda-*"))]),
        *installers(part, Path(params["installers"]), params["installer_urls"]),
        *wheels(part, params["locks"], sources),
    ]
    placed = [{**item, "path": f"platforms/{params['platform']}/{item['path']}"} for item in items]
    return [*placed, *models(folder, root / "models")]


def main():
    text, path = {"type": "str", "default": ""}, {"type": "path", "required": True}
    texts = {"type": "list", "elements": "str", "default": []}
    module = AnsibleModule(
        argument_spec={
            "folder": path,
            "platform": {"type": "str", "required": True},
            "host": {"type": "str", "required": True},
            "root": path,
            "installers": path,
            "installer_urls": texts,
            "package_folders": {"type": "list", "elements": "path", "default": ["/var/cache/apt/archives"]},
            "locks": {"type": "list", "elements": "dict", "default": []},
            "index": text,
            "find_links": texts,
        },
    )
    folder = Path(module.params["folder"])
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        items = gather(module.params, folder)
    except NotHarvested as refused:
        module.fail_json(msg=str(refused))
    (folder / "collected").mkdir()
    (folder / "collected" / f"{module.params['host']}.json").write_text(json.dumps(items), encoding="utf-8")
    for parent, _, names in os.walk(folder):
        Path(parent).chmod(0o755)
        for name in names:
            # Links to files of the live trees among them: readable, no longer.
            file = Path(parent, name)
            file.chmod(file.stat().st_mode | 0o444)
    module.exit_json(changed=True, count=len(items), bytes=sum(item["size"] for item in items))


if __name__ == "__main__":
    main()
