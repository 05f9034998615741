#!/usr/bin/python
# Copyright: The Bedplate developers
# SPDX-License-Identifier: Apache-2.0
"""Install locked wheels into an environment with uv, from where the server's own pip would take them."""

from __future__ import annotations

DOCUMENTATION = r"""
module: bedplate_wheels
short_description: Install locked wheels with uv
description:
  - Installs exactly the wheels of a lock into an environment. Every wheel must match a hash of the lock, so it does not matter
    which index gave it. Sources are never built.
  - uv ignores pip's configuration. This module reads it (files and environment of the server) and tells uv, which keeps
    addresses with passwords on the server, out of logs and process lists.
  - Tries pip's own configuration first, then adds O(wheel_index).
options:
  uv:
    description: The uv program.
    type: path
    required: true
  prefix:
    description: The environment.
    type: path
    required: true
  requirements:
    description: Text of the locks.
    type: str
    required: true
  cache:
    description: uv's cache. On the file system of the environment its files are shared with it by hard links.
    type: path
    required: true
  guard:
    description: File to lock while installing, so that two runs never write one environment at a time.
    type: path
    required: true
  index:
    description: Package index instead of the one pip is configured for.
    type: str
    default: ""
  find_links:
    description: Folders or pages with wheels instead of those pip is configured for.
    type: list
    elements: str
    default: []
  wheel_index:
    description: Further index, for wheels the other places do not have.
    type: str
    default: ""
author: The Bedplate developers
"""

EXAMPLES = r"""
- name: Install the locked wheels
  bedplate_wheels:
    uv: /opt/bedplate/tools/uv-0.13.9/bin/uv
    prefix: /opt/bedplate/envs/inference-0123456789ab
    requirements: "{{ lookup('ansible.builtin.file', 'lock.txt') }}"
    cache: /opt/bedplate/cache/uv
    guard: /opt/bedplate/.conda.lock
"""

RETURN = r"""
source:
  description: C(pip configuration) or C(wheel index), whichever had everything.
  returned: success
  type: str
"""

import fcntl
import os
import re
import subprocess
import tempfile
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.bedplate.pipconfig import requirement_options, server_sources, uv_environment

# What the server's own shell sets for these tools must not leak in.
FOREIGN = ("UV_", "PIP_", "PYTHON", "VIRTUAL_ENV", "CONDA")
UV_SETTINGS = {
    "UV_NO_CONFIG": "1",
    "UV_PYTHON_DOWNLOADS": "never",
    "UV_LINK_MODE": "hardlink",
    # pip looks into every index too; safe, because only bytes with the locked hash are accepted.
    "UV_INDEX_STRATEGY": "unsafe-best-match",
    # The system's certificates, as pip uses them.
    "UV_SYSTEM_CERTS": "1",
}
URL_PASSWORD = re.compile(r"(://[^/\s:@]*):[^/\s@]+@")


def install(params, sources, wheel_index, guard):
    """None when everything is installed, else the last lines uv printed."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    environ.update(UV_SETTINGS, UV_CACHE_DIR=params["cache"], **uv_environment(sources))
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as lock:
        lock.write(requirement_options(sources, wheel_index) + params["requirements"])
        lock.flush()
        argv = [params["uv"], "pip", "install", "--quiet", "--python", f"{params['prefix']}/bin/python"]
        argv += ["--no-deps", "--require-hashes", "--only-binary", ":all:", "--requirement", lock.name]
        # uv holds the guard too, should this module be killed before it.
        done = subprocess.run(argv, capture_output=True, text=True, check=False, env=environ, pass_fds=[guard.fileno()])
    if done.returncode == 0:
        return None
    printed = URL_PASSWORD.sub(r"\1:***@", done.stderr or done.stdout)
    return "\n".join(printed.strip().splitlines()[-12:])


def main():
    text = {"type": "str", "default": ""}
    path = {"type": "path", "required": True}
    module = AnsibleModule(
        argument_spec={
            "uv": path,
            "prefix": path,
            "requirements": {"type": "str", "required": True},
            "cache": path,
            "guard": path,
            "index": text,
            "find_links": {"type": "list", "elements": "str", "default": []},
            "wheel_index": text,
        },
        supports_check_mode=True,
    )
    params = module.params
    if module.check_mode:
        module.exit_json(changed=True)
    os.umask(0o022)
    with Path(params["guard"]).open("w", encoding="utf-8") as guard:
        # A run that was killed may have left its uv at work.
        fcntl.flock(guard, fcntl.LOCK_EX)
        # From here on the environment is no longer what conda made; an interrupted install starts from a new one.
        Path(params["prefix"], ".bedplate-conda.json").unlink(missing_ok=True)
        sources = server_sources(os.environ, params["index"], params["find_links"])
        reasons = []
        attempts = {"pip configuration": ""}
        if params["wheel_index"]:
            attempts["wheel index"] = params["wheel_index"]
        for source, wheel_index in attempts.items():
            reason = install(params, sources, wheel_index, guard)
            if reason is None:
                module.exit_json(changed=True, source=source)
            reasons.append(f"[{source}] {reason}")
    module.fail_json(msg="\n".join(reasons))


if __name__ == "__main__":
    main()
