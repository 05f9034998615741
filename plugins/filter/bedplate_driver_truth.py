"""Filters of the truth check over kernel, driver, libraries and GPUs."""

from __future__ import annotations

from pathlib import Path

import ansible.module_utils

# Ansible finds plugins/module_utils for modules; for plugins on the controller this does.
ansible.module_utils.__path__.append(str(Path(__file__).resolve().parents[1] / "module_utils"))

from ansible.module_utils.bedplate.driver_truth import driver_problems, driver_warnings  # noqa: E402 - needs the path above


class FilterModule:
    """driver_problems: probe | driver_problems(variant) -> refusals. driver_warnings: probe | driver_warnings -> texts."""

    def filters(self) -> dict[str, object]:
        return {"driver_problems": driver_problems, "driver_warnings": driver_warnings}
