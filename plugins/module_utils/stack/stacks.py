"""A stack: one combination of torch, variant and libraries that may be judged."""

from __future__ import annotations

from collections.abc import Collection, Mapping
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


@dataclass(frozen=True, slots=True)
class LockedStack:
    """A torch build whose wheels are locked by hash. architectures, pythons: what its lock is for; empty: any."""

    torch: str
    variant: str
    architectures: tuple[str, ...] = ()
    pythons: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """'torch 2.9.1+cu128'."""
        return f"torch {self.torch}+{self.variant}"

    def serves(self, arch: str, python: str | None) -> bool:
        """Whether the lock is for this machine and this Python series."""
        return _among(arch, self.architectures) and (python is None or _among(python, self.pythons))


def _among(wanted: str, listed: Collection[str]) -> bool:
    return not listed or wanted in listed
