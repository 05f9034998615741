"""Filters of the role preflight."""

from __future__ import annotations

from pathlib import Path

import ansible.module_utils

# Ansible finds plugins/module_utils for modules; for plugins on the controller this does.
ansible.module_utils.__path__.append(str(Path(__file__).resolve().parents[1] / "module_utils"))

from ansible.module_utils.bedplate.preflight import preflight_problems  # noqa: E402 - needs the path above


class FilterModule:
    """preflight_problems: probe | preflight_problems(facts, wanted) -> list of refusals."""

    def filters(self) -> dict[str, object]:
        return {"preflight_problems": preflight_problems}
