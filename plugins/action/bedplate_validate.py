"""Check the variables of a host against the argument specifications of all roles, on the controller, before anything runs.

A role validates its own arguments only when its turn comes, when earlier roles have already changed the server. This runs first.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ansible.module_utils
import yaml
from ansible.errors import AnsibleError, AnsibleTemplateError
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.plugins.action import ActionBase

# Ansible finds plugins/module_utils for modules; for plugins on the controller this does.
ansible.module_utils.__path__.append(str(Path(__file__).resolve().parents[1] / "module_utils"))

from ansible.module_utils.bedplate.refusal import refusal  # noqa: E402 - needs the path above

# Facts the roles pass to each other within a run; they share the prefix of the variables a person sets.
RUN_FACTS = {"bedplate_infrastructure", "bedplate_base", "bedplate_app", "bedplate_receipt", "bedplate_reboot_required"}
# Variables of earlier releases, and what took their place.
RENAMED = {"cuda_match_variant": "pytorch_variant"}


def role_options(roles_path: Path) -> dict[str, dict[str, dict[str, Any]]]:
    """Options by role and name, from each role's meta/argument_specs.yml."""
    found = {}
    for path in sorted(roles_path.glob("*/meta/argument_specs.yml")):
        spec = yaml.safe_load(path.read_text(encoding="utf-8"))["argument_specs"]["main"]
        found[path.parts[-3]] = spec.get("options", {})
    return found


def unknown_names(names: list[str], options: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Refusals for names that begin like a role's variables but are none: most likely misspelt."""
    known = {name for role in options.values() for name in role}
    prefixes = (*(f"{role}_" for role in options), "bedplate_")
    for name in names:
        if name.startswith(prefixes) and name not in known | RUN_FACTS:
            if name in RENAMED:
                yield refusal("BP111", "unknown variable", name, RENAMED[name], f"it is called {RENAMED[name]} now.")
                continue
            near = difflib.get_close_matches(name, known, n=1)
            fix = (
                f"did you mean {near[0]}?"
                if near
                else "remove it from the inventory; the roles' README files list the names."
            )
            yield refusal("BP111", "unknown variable", name, "a variable of a role", fix)


def wrong_values(values: Mapping[str, Any], options: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Refusals for values whose type or choice does not fit."""
    for role, specification in options.items():
        given = {name: values[name] for name in specification if name in values}
        for name, value in given.items():
            errors = ArgumentSpecValidator({name: specification[name]}).validate({name: value}).error_messages
            for error in errors:
                # Ansible appends the internal class of the value; a person has no use for it.
                cause = error.split(": <class", 1)[0]
                yield refusal(
                    "BP110",
                    f"wrong value of {name}",
                    repr(value),
                    cause,
                    f"correct {name} in the inventory (roles/{role}/README.md).",
                )


class ActionModule(ActionBase):
    """Fails with every problem found; changes nothing and does not connect to the host."""

    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        options = role_options(Path(self._task.args["roles_path"]))
        names = [name for name in task_vars or {} if not name.startswith("__")]
        values = {}
        for name in {name for role in options.values() for name in role}.intersection(names):
            try:
                values[name] = self._templar.template((task_vars or {})[name])
            except (AnsibleTemplateError, AnsibleError):
                # It refers to something only known later in the run; its role validates it then.
                continue
        problems = [*unknown_names(names, options), *wrong_values(values, options)]
        result.update(changed=False, failed=bool(problems), msg="\n".join(problems) or "every variable fits")
        return result
