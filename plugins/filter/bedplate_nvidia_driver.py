"""Filters of the role nvidia_driver."""

from __future__ import annotations

from pathlib import Path

import ansible.module_utils

# Ansible finds plugins/module_utils for modules; for plugins on the controller this does.
ansible.module_utils.__path__.append(str(Path(__file__).resolve().parents[1] / "module_utils"))

from ansible.module_utils.bedplate.driver_plan import in_use_problems, plan_host  # noqa: E402 - needs the path above
from ansible.module_utils.bedplate.driver_proof import driver_doubts  # noqa: E402 - needs the path above


class FilterModule:
    """driver_plan: probe | driver_plan(want, sources, receipt, change) -> plan; driver_doubts, driver_in_use -> refusals."""

    def filters(self) -> dict[str, object]:
        return {"driver_plan": plan_host, "driver_doubts": driver_doubts, "driver_in_use": in_use_problems}
