#!/usr/bin/python
# Copyright: The Bedplate developers
# SPDX-License-Identifier: Apache-2.0
"""Bring a locked model to this server whole and proven: a transfer in a unit of its own, which this module starts and attends."""

from __future__ import annotations

DOCUMENTATION = r"""
module: bedplate_model_fetch
short_description: Fetch a locked model from its origins, every byte proven, or not at all
description:
  - Starts C(model_fetcher) as a transient systemd unit, so that a lost connection is harmless, or finds the one that an earlier run
    started. Waits for C(wait) seconds and tells how far it is; the action plugin of the same name calls it again until it has ended.
  - The files are fetched by aria2 into the incoming folder next to the destination, proven by the manifest's sha256, and published in
    one rename. A killed transfer goes on where it was.
options:
  name:
    description: Name the model is served by, for messages.
    type: str
    required: true
  dest:
    description: The model's folder, with its revision in the name.
    type: path
    required: true
  manifest:
    description: What the folder has to hold, an entry of models.lock.
    type: dict
    required: true
  origins:
    description:
      - Where the files are, in the order they are asked. C(kind) is C(files) (C(url) with C({path}), and C(secret), a name in
        I(secrets), put in the place of C({secret}) or sent as a bearer token), C(archive) (C(url), C(size), C(sha256), C(folder)) or
        C(folder) (C(path) on this server); C(name) is for messages.
    type: list
    elements: dict
    required: true
  secrets:
    description: Tokens by name. They are handed to the transfer in a file on /run that only root reads, and nowhere else.
    type: dict
    default: {}
  wait:
    description: How many seconds to wait for the end of the transfer.
    type: float
    default: 5
  fresh:
    description:
      - Whether what an earlier transfer ended with is of no interest, unless the model is whole by it; the action plugin says C(false) from
        its second call on.
    type: bool
    default: true
  run:
    description: Folder of the transfers' jobs and their progress.
    type: path
    default: /run/bedplate-fetch
author: The Bedplate developers
"""

EXAMPLES = r"""
- name: Fetch a model
  bedplate_model_fetch:
    name: qwen
    dest: /opt/bedplate/models/Qwen--Qwen3-0.6B@c1899de289a0
    manifest: "{{ entry }}"
    origins: [{kind: files, name: the Hub, url: "https://hub.example/Qwen/Qwen3-0.6B/resolve/c1899de/{path}"}]
"""

RETURN = r"""
finished:
  description: Whether the model is published.
  returned: success
  type: bool
progress:
  description: C(done) and C(total) bytes, C(rate) in bytes a second.
  returned: success
  type: dict
result:
  description: C(fetched) bytes, C(bytes) of the model and C(seconds), once it is published.
  returned: when finished
  type: dict
"""

import hashlib
import json
import os
import shutil
import time
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.bedplate import aria2, manifest, model_fetcher, program, refusal, tree, web
from ansible.module_utils.bedplate.hostfacts import read_json

PROGRAM = (aria2, manifest, model_fetcher, refusal, tree, web)
# What a proxy and its certificate are called; a unit inherits nothing.
ENVIRONMENT = ("http_proxy", "https_proxy", "no_proxy", "all_proxy", "SSL_CERT_FILE")
POLL_S = 0.2


class Transfer:
    """The unit and its folder on /run."""

    def __init__(self, module):
        self.module = module
        self.dest = Path(module.params["dest"])
        self.unit = "bedplate-fetch-" + hashlib.sha256(str(self.dest).encode()).hexdigest()[:12]
        self.place = Path(module.params["run"]) / self.dest.name

    def is_running(self):
        done, said, _ = self.module.run_command(
            ["systemctl", "show", "--property", "ActiveState", "--value", f"{self.unit}.service"]
        )
        # Between a kill and the restart by systemd it is "activating".
        return done == 0 and said.strip() in ("active", "activating", "reloading", "deactivating")

    def start(self):
        """Write the job and the program, and let systemd run it. What a broken one of before left is removed."""
        ask = self.module.params
        self.place.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        shutil.rmtree(self.place, ignore_errors=True)
        installed = program.install(self.place, PROGRAM)
        given = {name: os.environ.get(name) or os.environ.get(name.upper(), "") for name in ENVIRONMENT}
        settings = {"ca_file": given["SSL_CERT_FILE"]} if given["SSL_CERT_FILE"] else {}
        job = {key: ask[key] for key in ("name", "dest", "manifest", "origins", "secrets")}
        job.update(environment=given, settings=settings)
        handle = os.open(self.place / "job.json", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w") as stream:
            json.dump(job, stream)
        self.dest.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        self.module.run_command(["systemctl", "reset-failed", f"{self.unit}.service"])
        properties = {
            "Description": f"Bedplate fetches {self.dest.name}",
            # A killed transfer goes on by itself; one that has told why it stopped has ended well.
            "Restart": "on-failure",
            "RestartSec": "1",
            "StartLimitIntervalSec": "300",
            "StartLimitBurst": "20",
            "ProtectSystem": "strict",
            "ReadWritePaths": f"{self.dest.parent} {self.place}",
            "CapabilityBoundingSet": "CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER",
            "NoNewPrivileges": "yes",
            "PrivateTmp": "yes",
            "ProtectHome": "read-only",
            "IOSchedulingClass": "best-effort",
            "IOSchedulingPriority": "6",
            "Nice": "5",
        }
        call = program.command(installed, model_fetcher, str(self.place))
        done, said, wrong = self.module.run_command(program.unit_command(self.unit, properties, call))
        if done != 0 and not self.is_running():
            found = (wrong or said).strip()
            fix = "systemctl status on the server; Bedplate needs systemd."
            self.module.fail_json(
                msg=refusal.refusal("BP513", f"model {ask['name']}: no transfer", found, "a transient unit", fix)
            )

    def result(self):
        """What the transfer ended with, or None."""
        found = read_json(self.place / "result.json")
        return found if isinstance(found, dict) else None

    def is_whole(self):
        """Whether the model is published and untouched, with the files that are asked for."""
        found = read_json(self.dest / "manifest.json")
        wanted = self.module.params["manifest"]["revision"]
        return isinstance(found, dict) and found.get("revision") == wanted and manifest.is_untouched(self.dest, found)

    def progress(self):
        found = read_json(self.place / "progress.json")
        total = sum(entry["size"] for entry in self.module.params["manifest"]["files"])
        return found if isinstance(found, dict) else {"done": 0, "total": total, "rate": 0}


def main():
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "dest": {"type": "path", "required": True},
            "manifest": {"type": "dict", "required": True},
            "origins": {"type": "list", "elements": "dict", "required": True},
            "secrets": {"type": "dict", "default": {}, "no_log": True},
            "wait": {"type": "float", "default": 5},
            "fresh": {"type": "bool", "default": True},
            "run": {"type": "path", "default": "/run/bedplate-fetch"},
        },
        supports_check_mode=False,
    )
    transfer = Transfer(module)
    end = time.monotonic() + module.params["wait"]
    old = module.params["fresh"] and not transfer.is_whole()
    started = not transfer.is_running() and (old or transfer.result() is None)
    if started:
        transfer.start()
    while transfer.result() is None and time.monotonic() < end and transfer.is_running():
        time.sleep(POLL_S)
    result = transfer.result()
    if result is None:
        if started and not transfer.is_running():
            fix = f"journalctl -u {transfer.unit} on the server says why."
            title = f"model {module.params['name']}: the transfer does not get on"
            module.fail_json(
                msg=refusal.refusal("BP513", title, "its unit ended without a word", "a running transfer", fix)
            )
        # Under way; one that was stopped meanwhile is started again by the next call.
        module.exit_json(changed=True, finished=False, progress=transfer.progress())
    shutil.rmtree(transfer.place, ignore_errors=True)
    if "problem" in result:
        module.fail_json(msg=result["problem"])
    module.exit_json(
        changed=True,
        finished=True,
        result=result,
        progress={"done": result["bytes"], "total": result["bytes"], "rate": 0},
    )


if __name__ == "__main__":
    main()
