"""What the resolver cannot answer: it says the code, the cause and the fix."""

from __future__ import annotations


class StackError(ValueError):
    """A question or data the resolver cannot read. `code` (BP141) has a section in docs/errors.md."""

    def __init__(self, code: str, cause: str, fix: str) -> None:
        super().__init__(f"{code} {cause}. Fix: {fix}")
        self.code, self.cause, self.fix = code, cause, fix
