"""Filters of the roles conda and pytorch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ansible.module_utils

# Ansible finds plugins/module_utils for modules; for plugins on the controller this does.
ansible.module_utils.__path__.append(str(Path(__file__).resolve().parents[1] / "module_utils"))

from ansible.module_utils.bedplate.environment_words import switch_plan  # noqa: E402 - needs the path above
from ansible.module_utils.bedplate.environments import (  # noqa: E402 - needs the path above
    Environment,
    Found,
    conda_cause,
    environment_problems,
    pinned_versions,
    resolve,
    stays,
    superseded,
    unfinished,
    unlinked,
    unmade,
)


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError:
        return None


def _files(environments: Sequence[Environment]) -> dict[str, str | None]:
    paths = {path for environment in environments for path in environment.get("locks", [])}
    paths |= {environment["explicit"] for environment in environments if environment.get("explicit")}
    return {path: _read(path) for path in paths}


def _enabled(environments: Sequence[Environment]) -> list[Environment]:
    # An inventory's own templates turn false into "False".
    return [item for item in environments if str(item.get("enabled", True)).lower() in ("true", "yes", "1")]


def problems(environments: Sequence[Environment]) -> list[str]:
    """Refusals for the enabled environments."""
    wanted = _enabled(environments)
    found: list[str] = environment_problems(wanted, _files(wanted))
    return found


def resolved(environments: Sequence[Environment], tool_lock: str, root: str) -> list[dict[str, Any]]:
    """The enabled environments with their hash and paths; tool_lock is the path of uv's lock."""
    wanted = _enabled(environments)
    texts = {path: text or "" for path, text in _files(wanted).items()}
    tool = Path(tool_lock).read_text(encoding="utf-8")
    return [resolve(environment, texts, tool, root) for environment in wanted]


def planned_switch(environments: Sequence[Environment], found: Found, links: dict[str, str]) -> list[str]:
    """Sentences on what switching to resolved environments means."""
    sentences: list[str] = switch_plan(
        environments, found, links, {path: text or "" for path, text in _files(environments).items()}
    )
    return sentences


class FilterModule:
    """Filters of a list of environments, of a name of one, of a lock's text and of what conda printed; the functions they name tell the rest."""

    def filters(self) -> dict[str, object]:
        return {
            "environment_problems": problems,
            "resolved_environments": resolved,
            "superseded_environments": superseded,
            "switch_plan": planned_switch,
            "unfinished_environments": unfinished,
            "unlinked_environments": unlinked,
            "unmade_environments": unmade,
            "conda_cause": conda_cause,
            "pinned_versions": pinned_versions,
            "environment_that_stays": stays,
        }
