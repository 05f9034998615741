"""A stack: one combination of torch, variant and libraries that may be judged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .tables import Release
from .versions import Version


@dataclass(frozen=True, slots=True)
class Stack:
    """torch as asked for, its release if known, the wheel variant. plain: what `pip install torch` gives, nothing chosen."""

    torch: str
    release: Release | None
    variant: str
    libs: Mapping[str, Version | None] = field(default_factory=dict)
    plain: bool = False

    @property
    def name(self) -> str:
        """'torch 2.9.1+cu128'."""
        return f"torch {self.torch}+{self.variant}"
