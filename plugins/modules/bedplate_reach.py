#!/usr/bin/python
# Copyright: The Bedplate developers
# SPDX-License-Identifier: Apache-2.0
"""Find the first address of each source that answers. Writes nothing."""

from __future__ import annotations

DOCUMENTATION = r"""
module: bedplate_reach
short_description: Find the first address of each source that answers
description:
  - Asks the addresses of each source in order, through the proxy and with the certificates of the task's environment. Changes nothing.
  - A source of which none answers keeps its first address. Who fetches from it then says what is wrong; a run that fetches nothing
    needs no source.
options:
  sources:
    description: By name, C(addresses) in order and the C(proof), a path below the address that must be there. Without a proof any answer will do.
    type: dict
    required: true
  timeout:
    description: Seconds without an answer after which an address is given up.
    type: int
    default: 8
author: The Bedplate developers
"""

EXAMPLES = r"""
- name: Which channel answers
  bedplate_reach:
    sources:
      conda_forge: {addresses: [https://mirror.example/conda-forge], proof: noarch/repodata.json.zst}
"""

RETURN = r"""
reached:
  description: One address by source.
  returned: always
  type: dict
refused:
  description: Why addresses were passed over, by source.
  returned: always
  type: dict
"""

from concurrent.futures import ThreadPoolExecutor
from urllib.error import HTTPError

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.urls import ConnectionError as UrlConnectionError
from ansible.module_utils.urls import SSLValidationError, open_url


def unanswered(address, proof, timeout):
    """None when the address answers as it should, else why it does not."""
    try:
        # One byte will do: the file may be large, and some servers refuse a question for its head alone.
        with open_url(f"{address}/{proof}", timeout=timeout, http_agent="bedplate", headers={"Range": "bytes=0-0"}):
            return None
    except HTTPError as error:
        return None if not proof and error.code < 500 else f"HTTP {error.code}"
    except (OSError, UrlConnectionError, SSLValidationError, ValueError) as error:
        return str(getattr(error, "reason", error))


def first(source, timeout):
    """The first address that answers, else the first of all; and why others were passed over."""
    refused = []
    for address in source["addresses"]:
        reason = unanswered(address, source.get("proof", ""), timeout)
        if reason is None:
            return address, refused
        refused.append(f"{address}: {reason}")
    return source["addresses"][0], refused


def main():
    module = AnsibleModule(
        argument_spec={
            "sources": {"type": "dict", "required": True},
            "timeout": {"type": "int", "default": 8},
        },
        supports_check_mode=True,
    )
    sources, timeout = module.params["sources"], module.params["timeout"]
    with ThreadPoolExecutor(max(len(sources), 1)) as pool:
        asked = {name: pool.submit(first, source, timeout) for name, source in sources.items()}
        answers = {name: future.result() for name, future in asked.items()}
    refused = {name: why for name, (_, why) in answers.items() if why}
    for name, why in refused.items():
        module.warn(f"{name}: passed over {'; '.join(why)}")
    module.exit_json(changed=False, reached={name: address for name, (address, _) in answers.items()}, refused=refused)


if __name__ == "__main__":
    main()
