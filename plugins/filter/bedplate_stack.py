"""Filters of the stack resolver: a server's question, the builds it may choose from, the answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ansible.module_utils

# Ansible finds plugins/module_utils for modules; for plugins on the controller this does.
ansible.module_utils.__path__.append(str(Path(__file__).resolve().parents[1] / "module_utils"))

from ansible.module_utils.bedplate import decision, torch_locks  # noqa: E402 - needs the path above
from ansible.module_utils.bedplate.environments import pinned_versions  # noqa: E402 - needs the path above
from ansible.module_utils.bedplate.refusal import refusal  # noqa: E402 - needs the path above
from ansible.module_utils.stack import Decision, StackError, load_tables, resolve  # noqa: E402 - needs the path above
from ansible.module_utils.stack.explain import lines  # noqa: E402 - needs the path above
from ansible.module_utils.stack.findings import CODES  # noqa: E402 - needs the path above


def stack_decision(
    facts: Mapping[str, Any], want: Mapping[str, Any], receipt: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """facts | stack_decision(want, receipt) -> {section: for the receipt, lines: as a person reads it, problem: of a reject, or ''}.

    receipt: what the last run left. A question that cannot be read is a reject whose problem has the resolver's code.
    """
    try:
        found = resolve(facts, want)
        said, problem = lines(found), _problem(found, want)
    except StackError as error:
        explanation = (f"{error.code} {error.cause}",)
        found = Decision("reject", None, (), None, None, None, (), False, False, explanation, error.fix)
        said, problem = [str(error)], str(error)
    before = (receipt or {}).get("cuda_match") or {}
    return {"section": decision.kept(found.as_dict(), facts, want, before), "lines": said, "problem": problem}


def _problem(found: Decision, want: Mapping[str, Any]) -> str:
    if found.verdict != "reject" or found.reason is None:
        return ""
    cause = next(line for line in found.explanation if line.startswith(f"{found.reason}: "))
    wanted = f"torch {want['torch']}, variant {want['variant']}, that runs on this server"
    text: str = refusal(
        CODES[found.reason],
        "no PyTorch build fits",
        cause,
        wanted,
        f"{found.fix}. pytorch_version and pytorch_variant ask for a build.",
    )
    return text


def stack_wish(
    environments: Sequence[Mapping[str, Any]], name: str, torch: str, variant: str, locks: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """conda_environments | stack_wish('inference', version, variant, locks) -> the wish, with the libraries the environment must run.

    Those are the ones of its proof. Others it pins may lie idle: bitsandbytes, where no model is quantized, needs no GPU of its own.
    """
    environment = _environment(environments, name)
    texts = [Path(path) for path in environment.get("locks", []) if not Path(path).name.startswith("torch-")]
    pinned = pinned_versions("\n".join(path.read_text(encoding="utf-8") for path in texts if path.is_file()))
    needed = {name: version for name, version in pinned.items() if name in environment.get("proof", [])}
    libraries = decision.libraries(needed, load_tables().libraries)
    return {"torch": torch, "variant": variant, "libs": libraries, "stacks": list(locks)}


def environment_python(environments: Sequence[Mapping[str, Any]], name: str) -> str:
    """The Python an environment asks for, '' where a lock of conda decides."""
    return str(_environment(environments, name).get("python") or "")


def _environment(environments: Sequence[Mapping[str, Any]], name: str) -> Mapping[str, Any]:
    return next((one for one in environments if one.get("name") == name), {})


def locked_stacks(folders: Sequence[str]) -> list[dict[str, Any]]:
    """Folders on the controller -> their locks of torch, {torch, variant, architectures, pythons, path}, without damaged ones."""
    files = torch_locks.read_folders(folders)
    sound = [torch_locks.read_lock(path, text) for path, text in files if not torch_locks.lock_problems(path, text)]
    return list(torch_locks.in_use(sound))


def lock_problems(folders: Sequence[str]) -> list[str]:
    """Folders on the controller -> a refusal for each damaged lock of torch in them, and for each folder that is not there."""
    missing = [
        refusal("BP307", f"no folder {folder}", "nothing there", "a folder with locks", "correct pytorch_locks.")
        for folder in folders
        if not Path(folder).is_dir()
    ]
    files = torch_locks.read_folders(folders)
    return missing + [problem for path, text in files for problem in torch_locks.lock_problems(path, text)]


class FilterModule:
    """The functions they name tell the rest; the pure ones are in module_utils/bedplate/decision.py and torch_locks.py."""

    def filters(self) -> dict[str, object]:
        return {
            "stack_decision": stack_decision,
            "stack_facts": decision.stack_facts,
            "stack_wish": stack_wish,
            "stack_drift": decision.drift,
            "environment_python": environment_python,
            "locked_stacks": locked_stacks,
            "lock_problems": lock_problems,
            "lock_of_stack": torch_locks.lock_of,
            "stand_in_lock": torch_locks.stand_in,
        }
