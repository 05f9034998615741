#!/usr/bin/python
# Copyright: The Bedplate developers
# SPDX-License-Identifier: Apache-2.0
"""Fetch one file from the first address that gives the right bytes."""

from __future__ import annotations

DOCUMENTATION = r"""
module: bedplate_fetch
short_description: Fetch a file from a list of addresses, by its sha256
description:
  - Tries the addresses in order. One that cannot be reached, or gives other bytes than the sha256 says, is passed over.
  - The file appears under its name only when its sha256 is right; until then nothing is changed.
options:
  urls:
    description: Addresses, tried in order.
    type: list
    elements: str
    required: true
  sha256:
    description: Hex sha256 of the file.
    type: str
    required: true
  dest:
    description: Where to put the file. Its folder is made.
    type: path
    required: true
  timeout:
    description: Seconds without an answer after which an address is given up.
    type: int
    default: 20
author: The Bedplate developers
"""

EXAMPLES = r"""
- name: Fetch the installer
  bedplate_fetch:
    urls: [https://mirror.example/installer.sh, https://origin.example/installer.sh]
    sha256: 848194851a98903134187fbb4ab50efe87b003e0c0f808f97644b7524a62bf2c
    dest: /var/cache/bedplate/installer.sh
"""

RETURN = r"""
refused:
  description: Why each address before the good one was passed over.
  returned: always
  type: list
  elements: str
"""

import hashlib
from pathlib import Path
from urllib.error import HTTPError

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.bedplate.hostfacts import file_sha256
from ansible.module_utils.urls import ConnectionError as UrlConnectionError
from ansible.module_utils.urls import SSLValidationError, open_url


def download(url, timeout, stream):
    """Copy what the address gives into the stream and return its sha256."""
    digest = hashlib.sha256()
    with open_url(url, timeout=timeout, http_agent="bedplate") as answer:
        for block in iter(lambda: answer.read(1 << 20), b""):
            digest.update(block)
            stream.write(block)
    return digest.hexdigest()


def attempt(url, sha256, timeout, temporary):
    """None when the right bytes are in the temporary file, else why this address would not do."""
    try:
        with temporary.open("wb") as stream:
            found = download(url, timeout, stream)
    except HTTPError as error:
        return f"HTTP {error.code}"
    except (OSError, UrlConnectionError, SSLValidationError) as error:
        return str(getattr(error, "reason", error))
    return None if found == sha256 else f"sha256 {found}"


def main():
    module = AnsibleModule(
        argument_spec={
            "urls": {"type": "list", "elements": "str", "required": True},
            "sha256": {"type": "str", "required": True},
            "dest": {"type": "path", "required": True},
            "timeout": {"type": "int", "default": 20},
        },
        supports_check_mode=True,
    )
    dest, sha256 = Path(module.params["dest"]), module.params["sha256"].lower()
    if file_sha256(dest) == sha256:
        module.exit_json(changed=False, refused=[])
    if module.check_mode:
        module.exit_json(changed=True, refused=[])
    refused = []
    temporary = Path(module.tmpdir, "fetched")
    for url in module.params["urls"]:
        reason = attempt(url, sha256, module.params["timeout"], temporary)
        if reason is None:
            dest.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            module.atomic_move(str(temporary), str(dest))
            dest.chmod(0o644)
            module.exit_json(changed=True, refused=refused)
        refused.append(f"{url}: {reason}")
    module.fail_json(msg="; ".join(refused) or "no address given", refused=refused)


if __name__ == "__main__":
    main()
