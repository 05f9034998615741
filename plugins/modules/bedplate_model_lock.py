#!/usr/bin/python
# Copyright: The Bedplate developers
# SPDX-License-Identifier: Apache-2.0
"""Ask the sources of models what they hold: the entries of models.lock. Writes nothing."""

from __future__ import annotations

DOCUMENTATION = r"""
module: bedplate_model_lock
short_description: Ask the sources of models what they hold
description:
  - Resolves each source to a commit and its files with size and sha256, reads the small ones and refuses what must not be served
    (pickles, own code, incomplete models). Reads no weights, but for archives, whose files are known only when they were read.
options:
  models:
    description: C(name) and C(source) of each.
    type: list
    elements: dict
    required: true
  endpoints:
    description: Addresses of C(hub) and C(modelscope).
    type: dict
    required: true
  token:
    description: Token for gated models of the Hub.
    type: str
    default: ""
author: The Bedplate developers
"""

EXAMPLES = r"""
- name: Ask what a model holds
  bedplate_model_lock:
    models: [{name: qwen, source: "hf://Qwen/Qwen3-0.6B@main"}]
    endpoints: {hub: "{{ hf_endpoint }}", modelscope: "{{ modelscope_endpoint }}"}
"""

RETURN = r"""
entries:
  description: Entry of models.lock by source.
  returned: success
  type: dict
problems:
  description: Why a source cannot be locked, by source.
  returned: success
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.bedplate.model_listing import SourceError
from ansible.module_utils.bedplate.model_lock import locked
from ansible.module_utils.bedplate.model_reference import reference_of


def main():
    module = AnsibleModule(
        argument_spec={
            "models": {"type": "list", "elements": "dict", "required": True},
            "endpoints": {"type": "dict", "required": True},
            "token": {"type": "str", "default": "", "no_log": True},
        },
        supports_check_mode=True,
    )
    entries, problems = {}, {}
    endpoints = {name: address.rstrip("/") for name, address in module.params["endpoints"].items()}
    for model in module.params["models"]:
        reference = reference_of(model["source"])
        try:
            entries[model["source"]] = locked(reference, model["name"], endpoints, module.params["token"])
        except SourceError as error:
            problems[model["source"]] = str(error)
    module.exit_json(changed=False, entries=entries, problems=problems)


if __name__ == "__main__":
    main()
