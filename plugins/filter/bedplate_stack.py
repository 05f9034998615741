"""Filters of the stack resolver."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ansible.module_utils

# Ansible finds plugins/module_utils for modules; for plugins on the controller this does.
ansible.module_utils.__path__.append(str(Path(__file__).resolve().parents[1] / "module_utils"))

from ansible.errors import AnsibleFilterError  # noqa: E402 - beside the import that needs the path above
from ansible.module_utils.stack import StackError, plan_driver, resolve  # noqa: E402 - needs the path above


def resolve_stack(facts: Mapping[str, Any], want: Mapping[str, Any]) -> dict[str, Any]:
    """facts | resolve_stack(want) -> the decision of docs/resolver.md as a mapping."""
    try:
        return dict(resolve(facts, want).as_dict())
    except StackError as error:
        raise AnsibleFilterError(str(error)) from error


def stack_driver(facts: Mapping[str, Any], want: Mapping[str, Any]) -> dict[str, Any] | None:
    """facts | stack_driver(want) -> the driver to install: branch, flavour, at_least; None without GPUs or if none serves them."""
    try:
        plan = plan_driver(facts, want)
    except StackError as error:
        raise AnsibleFilterError(str(error)) from error
    if plan is None:
        return None
    at_least = plan.at_least.text if plan.at_least else None
    return {"branch": plan.branch.number, "flavour": plan.flavour, "at_least": at_least}


class FilterModule:
    """resolve_stack, stack_driver: what runs on a host, and which driver it should get."""

    def filters(self) -> dict[str, object]:
        return {"resolve_stack": resolve_stack, "stack_driver": stack_driver}
