"""The answer: the contract of docs/resolver.md."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True, slots=True)
class Decision:
    """What runs on a host, or why nothing does.

    verdict: ok, ok_with_warning, reject, plan. reason: why a reject is one (findings.REASONS); also: further reasons.
    driver: the installed driver, or of a plan the branch to install. alternatives: stacks that are themselves ok; an entry
    names the facts it needs changed. minor_compat: the driver is older than the one paired with the variant's CUDA.
    forward_compat: the stack runs through cuda-compat. explanation: what was compared. fix: what to do about a reject or plan.
    """

    verdict: str
    reason: str | None
    also: tuple[str, ...]
    driver: str | None
    torch: str | None
    variant: str | None
    alternatives: tuple[dict[str, Any], ...]
    minor_compat: bool
    forward_compat: bool
    explanation: tuple[str, ...]
    fix: str | None

    def as_dict(self) -> dict[str, Any]:
        """The fields as plain data, for JSON and for Ansible."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
