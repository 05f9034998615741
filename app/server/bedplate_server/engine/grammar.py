"""Answers that must match a grammar: what the sampling asks before each token, and tells after it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch


class GrammarState(Protocol):
    """Where one sequence stands in its grammar."""

    def fill(self, bitmask: torch.Tensor, row: int) -> None:
        """Set the bits of the tokens that may come next in `bitmask` [rows, vocabulary / 32], int32, on the CPU.

        The ids that end an answer are among them only where the grammar may end.
        """

    def accept(self, token: int) -> None:
        """Move on by the token that was picked."""


# Makes the state of a new sequence from `Sampling.grammar`; raises ValueError for one that cannot be followed.
GrammarFactory = Callable[[str], GrammarState]
