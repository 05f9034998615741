"""What switching to other environments means, in words. Runs on the controller; pure functions."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ansible.module_utils.bedplate.environments import Environment, Found, pinned_versions, unfinished, unlinked


def switch_plan(
    environments: Sequence[Environment], found: Found, links: Mapping[str, str], locks: Mapping[str, str]
) -> list[str]:
    """What switching to the wanted environments means, one sentence each. locks: text of every lock by path."""
    return [
        f"environment {environment['name']} {_how(environment, found)}: {_contents(environment, locks)}"
        f" (now {_present(found.get(links.get(environment['name'], ''), {}).get('stamp'))})"
        for environment in unlinked(environments, links)
    ]


def _how(environment: Environment, found: Found) -> str:
    folder = environment["prefix"].rsplit("/", 1)[-1]
    return (
        f"is built anew as {folder}"
        if unfinished([environment], found)
        else f"is switched to {folder}, which is finished"
    )


def _contents(environment: Environment, locks: Mapping[str, str]) -> str:
    """Python 3.11, torch 2.13.0+cu130 with its CUDA libraries (several GB)"""
    words = [f"Python {environment['python']}"] if environment["python"] else ["packages of its explicit lock"]
    for path in environment["locks"]:
        named = re.search(r"torch-[\d.]+-(\w+)\.txt$", path)
        version = pinned_versions(locks[path]).get("torch")
        if version:
            variant = named[1] if named else ""
            local = "" if "+" in version or not variant else f"+{variant}"
            words.append(
                f"torch {version}{local}" + (" with its CUDA libraries, several GB" if variant.startswith("cu") else "")
            )
    return ", ".join(words)


def _present(stamp: Mapping[str, Any] | None) -> str:
    if not stamp:
        return "none"
    return (
        f"torch {stamp.get('torch')}+{stamp.get('variant')}"
        if "torch" in (stamp.get("proof") or {})
        else "without torch"
    )
