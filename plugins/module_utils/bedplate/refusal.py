"""How Bedplate refuses: a code, the cause with the measured values, and the fix."""

from __future__ import annotations


def refusal(code: str, title: str, found: str, wanted: str, fix: str) -> str:
    """One refusal as a person reads it. The code (BP101) has a section in docs/errors.md."""
    return f"{code} {title}: found {found}, wanted {wanted}. Fix: {fix}"
