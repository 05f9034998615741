#!/usr/bin/python
# Copyright: The Bedplate developers
# SPDX-License-Identifier: Apache-2.0
"""Keep the state of the service that has answered, and bring a kept one back."""

from __future__ import annotations

DOCUMENTATION = r"""
module: bedplate_generation
short_description: Keep the state of the service that has answered, and bring a kept one back
description:
  - A generation is what makes the service what it is; the texts of its configuration and units, where the links to environment and
    release lead, and what the receipt says of it. Two are kept, C(current) (what was last proven) and C(previous) (what ran before
    the environment or the release changed).
  - Bringing one back writes it out, restarts the service and asks whether it is ready. Killed in between, it can simply be run again.
options:
  state:
    description: C(kept) records what runs as the current generation; C(restored) brings one back.
    type: str
    choices: [kept, restored]
    required: true
  folder:
    description: Where the generations are.
    type: path
    required: true
  stamp_file:
    description: File that says which state was proven. Written last, removed before anything changes.
    type: path
    required: true
  stamp:
    description: For C(kept) the stamp of what runs; for C(restored) that of the state that failed, which is not brought back.
    type: str
    default: ""
  files:
    description: Files that belong to the generation (C(kept)).
    type: list
    elements: path
    default: []
  links:
    description: Links that belong to it, as C({environment, release}) (C(kept)).
    type: dict
    default: {}
  sections:
    description: Sections of the receipt that tell of it (C(kept)).
    type: dict
    default: {}
  generation:
    description: Which one to bring back.
    type: str
    choices: [current, previous]
    default: current
  why:
    description: Why it is brought back; noted in the receipt.
    type: str
    default: ""
  unit:
    description: Name of the service's units, without C(.service) and C(.socket).
    type: str
    default: bedplate-inference
  socket:
    description: Unix socket the service answers on.
    type: path
  patience:
    description: How many seconds the service may take to say that it is ready, once systemd has started it.
    type: int
    default: 30
  receipt:
    description: The receipt.
    type: path
    default: /etc/ansible/facts.d/bedplate.fact
author: The Bedplate developers
"""

EXAMPLES = r"""
- name: Bring back what ran before
  bedplate_generation:
    state: restored
    generation: previous
    folder: /var/lib/bedplate/generations
    stamp_file: /var/lib/bedplate/stamps/inference
    socket: /run/bedplate/inference.sock
"""

RETURN = r"""
outcome:
  description: >-
    Of C(restored). C(restored), it is back and answers; C(untouched), the same, and it had never been stopped;
    C(none), there is nothing to bring back; C(gone), its folders are not there
    any more; C(silent), it is back and does not answer; C(returned), it did not answer and what ran before runs again.
  returned: when state is restored
  type: str
to:
  description: Environment, release and versions of the generation brought back.
  returned: when there is one
  type: dict
from:
  description: The same of what was on the server before.
  returned: when there is one
  type: dict
said:
  description: What is missing, or what the service or systemd said.
  returned: when state is restored
  type: str
seconds:
  description: How long the service took to stop, start and answer.
  returned: when it was restarted
  type: float
"""

import json
import os
import time
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.bedplate.files import replace_file
from ansible.module_utils.bedplate.generation import differing, former, is_generation, missing, recorded, summary
from ansible.module_utils.bedplate.hostfacts import read_json, read_text
from ansible.module_utils.bedplate.readiness import is_ready, wait_until_ready


class Store:
    """The kept generations, the stamp, and writing files whole."""

    def __init__(self, module):
        self.module = module
        self.folder = Path(module.params["folder"])
        self.stamp = Path(module.params["stamp_file"])

    def read(self, name):
        found = read_json(self.folder / f"{name}.json")
        return found if is_generation(found) else None

    def write(self, name, generation):
        """True when the file was otherwise. None removes it."""
        path = self.folder / f"{name}.json"
        if generation is None:
            existed = path.exists()
            path.unlink(missing_ok=True)
            return existed
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self.write_text(path, json.dumps(generation, indent=1, sort_keys=True) + "\n", 0o600)

    def write_text(self, path, text, mode, owner=None, group=None):
        if read_text(path) == text:
            return False
        replace_file(path, text, mode, owner, group)
        return True

    def write_stamp(self, stamp):
        return self.write_text(self.stamp, stamp + "\n", 0o644)


def kept(module, store):
    ask = module.params
    if module.check_mode:
        module.exit_json(changed=(read_text(store.stamp) or "").strip() != ask["stamp"])
    current, previous = store.read("current"), store.read("previous")
    new = recorded(ask["stamp"], invocation(module), ask["files"], ask["links"], ask["sections"])
    # In this order a run killed in between loses nothing: the next one finds no stamp and comes here again.
    changed = store.write("previous", former(current, previous, new))
    changed |= store.write("current", new)
    changed |= store.write_stamp(ask["stamp"])
    module.exit_json(changed=changed)


def invocation(module):
    """systemd's id of the service's present start."""
    return module.run_command(
        ["systemctl", "show", "--property", "InvocationID", "--value", f"{module.params['unit']}.service"]
    )[1].strip()


def put_back(store, generation):
    """Write the generation's files and links; True when its socket's unit is among them."""
    files, links = differing(generation)
    for one in files:
        path = one["path"]
        if one["text"] is None:
            Path(path).unlink(missing_ok=True)
            continue
        store.write_text(path, one["text"], one["mode"], one["owner"], one["group"])
    for link in links:
        beside = link["path"] + ".new"
        Path(beside).unlink(missing_ok=True)
        os.symlink(link["target"], beside)
        os.replace(beside, link["path"])
    store.module.run_command(["systemctl", "daemon-reload"], check_rc=True)
    return any(one["path"].endswith(".socket") for one in files)


def restart(module, socket_changed):
    """(whether the service answers, what was said, seconds). systemctl returns once a token was generated."""
    unit, began = module.params["unit"], time.monotonic()
    if socket_changed:
        module.run_command(["systemctl", "restart", f"{unit}.socket"])
    done, _, said = module.run_command(["systemctl", "restart", f"{unit}.service"])
    if done == 0:
        status, said = wait_until_ready(module.params["socket"], module.params["patience"])
        said = f"{status} {said}"
        done = 0 if status == 200 else 1
    return done == 0, said.strip(), round(time.monotonic() - began, 2)


def note(store, generation, left):
    """The receipt tells of the generation that runs, and what it came back from."""
    path = Path(store.module.params["receipt"])
    receipt = read_json(path)
    receipt = {**(receipt if isinstance(receipt, dict) else {}), **generation["receipt"]}
    if left != summary(generation):
        told = {"from": left, "why": store.module.params["why"]}
        receipt["inference"] = {**receipt.get("inference", {}), "rolled_back": told}
    store.write_text(path, json.dumps(receipt, indent=2, sort_keys=True) + "\n", 0o644)


def restored(module, store):
    ask = module.params
    current, generation = store.read("current"), store.read(ask["generation"])
    if generation is None or generation["stamp"] == ask["stamp"]:
        module.exit_json(changed=False, outcome="none", said="no generation was kept" if generation is None else "")
    live = recorded("", "", [], {what: link["path"] for what, link in generation["links"].items()}, {})
    about = {"to": summary(generation), "from": summary(live)}
    gone = missing(generation)
    if gone:
        module.exit_json(changed=False, outcome="gone", said=f"{', '.join(gone)} not there", **about)
    if module.check_mode:
        module.exit_json(changed=True, outcome="restored", said="", **about)
    if generation["invocation"] == invocation(module) and is_ready(ask["socket"]):
        # What was proven then has not been stopped since.
        put_back(store, generation)
        store.write_stamp(generation["stamp"])
        note(store, generation, about["from"])
        module.exit_json(changed=True, outcome="untouched", said="", **about)
    store.stamp.unlink(missing_ok=True)
    answers, said, seconds = restart(module, put_back(store, generation))
    outcome = "restored" if answers else "silent"
    if answers:
        store.write("current", generation)
        if ask["generation"] == "previous":
            store.write("previous", None)
        note(store, generation, about["from"])
        store.write_stamp(generation["stamp"])
    elif ask["generation"] == "previous" and current:
        # What ran before the attempt is better than something that does not answer.
        answers_again, _, _ = restart(module, put_back(store, current))
        if answers_again:
            outcome = "returned"
            store.write_stamp(current["stamp"])
    module.exit_json(changed=True, outcome=outcome, said=said, seconds=seconds, **about)


def main():
    paths = {"type": "list", "elements": "path", "default": []}
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["kept", "restored"], "required": True},
            "folder": {"type": "path", "required": True},
            "stamp_file": {"type": "path", "required": True},
            "stamp": {"type": "str", "default": ""},
            "files": paths,
            "links": {"type": "dict", "default": {}},
            "sections": {"type": "dict", "default": {}},
            "generation": {"type": "str", "choices": ["current", "previous"], "default": "current"},
            "why": {"type": "str", "default": ""},
            "unit": {"type": "str", "default": "bedplate-inference"},
            "socket": {"type": "path"},
            "patience": {"type": "int", "default": 30},
            "receipt": {"type": "path", "default": "/etc/ansible/facts.d/bedplate.fact"},
        },
        required_if=[("state", "kept", ["stamp", "files", "links"]), ("state", "restored", ["socket"])],
        supports_check_mode=True,
    )
    {"kept": kept, "restored": restored}[module.params["state"]](module, Store(module))


if __name__ == "__main__":
    main()
