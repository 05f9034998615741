"""Attend a model's transfer on the server until it has ended, and say how far it is meanwhile.

The module starts the transfer, or finds it running, and waits a little; this calls it until the model is published. Nothing is lost
when the connection is: the transfer has a unit of its own, and the next run finds it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ansible.module_utils
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

# Ansible finds plugins/module_utils for modules; for plugins on the controller this does.
ansible.module_utils.__path__.append(str(Path(__file__).resolve().parents[1] / "module_utils"))

from ansible.module_utils.bedplate.sizes import transfer_words  # noqa: E402 - needs the path above


class ActionModule(ActionBase):  # type: ignore[misc]
    """`bedplate_model_fetch`, called until it has finished."""

    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """The module's last answer."""
        super().run(tmp, task_vars)
        host = (task_vars or {}).get("inventory_hostname", "")
        arguments = dict(self._task.args)
        while True:
            answer: dict[str, Any] = self._execute_module(module_args=arguments, task_vars=task_vars)
            if answer.get("failed") or answer.get("unreachable") or answer.get("finished", True):
                return answer
            arguments["fresh"] = False
            Display().display(f"{host}: {transfer_words(self._task.args['name'], answer['progress'])}")
