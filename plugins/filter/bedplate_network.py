"""Filters of the way out: the environment of every task, the choice among addresses, and refusals for what cannot be used."""

from __future__ import annotations

from pathlib import Path

import ansible.module_utils

# Ansible finds plugins/module_utils for modules; for plugins on the controller this does.
ansible.module_utils.__path__.append(str(Path(__file__).resolve().parents[1] / "module_utils"))

from ansible.module_utils.bedplate import network, sources  # noqa: E402 - needs the path above


class FilterModule:
    """bedplate_http_proxy | network_environment(...) | network_problems(...); __sources | first_addresses | source_choices(...)."""

    def filters(self) -> dict[str, object]:
        return {
            "network_environment": network.network_environment,
            "controller_environment": network.controller_environment,
            "network_problems": network.network_problems,
            "first_addresses": sources.first_addresses,
            "installer_addresses": sources.installer_addresses,
            "source_choices": sources.source_choices,
            "source_problems": sources.source_problems,
        }
