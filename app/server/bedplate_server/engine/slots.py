"""Memory of keys and values: one row per running sequence, in buffers that are allocated once.

Rows in use are always the first ones, so that a decode step reads a slice, not a gather. Lengths differ per
row; what lies behind a row's length is never attended to (see masks.py) and so never cleared.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers.cache_utils import Cache, CacheLayerMixin


@dataclass(frozen=True, slots=True)
class KVShape:
    """Heads and head sizes of one layer's keys and values."""

    heads: int
    key_size: int
    value_size: int

    @property
    def elements_per_token(self) -> int:
        return self.heads * (self.key_size + self.value_size)


@dataclass(slots=True)
class _Window:
    """The part of the buffers a forward pass works on: rows [first, first + batch), positions [0, end)."""

    first: int = 0
    end: int = 0
    positions: torch.Tensor | None = None  # [batch, tokens], where the new keys and values go


class _SlotLayer(CacheLayerMixin):  # type: ignore[no-untyped-call]
    """One layer's buffers, [rows, heads, positions, size], as a cache layer that models can update."""

    is_sliding = False

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, window: _Window) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.keys: torch.Tensor = keys
        self.values: torch.Tensor = values
        self.is_initialized = True
        self._window = window

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Nothing: the buffers are there from the start."""

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Store the new states and return all up to the window's end, for the rows of the window."""
        positions = self._window.positions
        assert positions is not None, "KVSlots.at comes first"
        first, end = self._window.first, self._window.end
        rows = torch.arange(first, first + len(positions), device=positions.device)[:, None]
        # Two index tensors around a slice put the sliced dimension (heads) last but one: [batch, tokens,
        # heads, size].
        self.keys[rows, :, positions] = key_states.transpose(1, 2)
        self.values[rows, :, positions] = value_states.transpose(1, 2)
        batch = slice(first, first + len(positions))
        return self.keys[batch, :, :end], self.values[batch, :, :end]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self._window.end, 0

    def get_seq_length(self) -> int:
        return self._window.end

    def get_max_length(self) -> int:
        return int(self.keys.shape[2])


class KVSlots(Cache):
    """The buffers of all layers, `rows` sequences of `length` tokens. `at` chooses what a pass works on."""

    def __init__(self, shapes: list[KVShape], rows: int, length: int, dtype: torch.dtype, device: torch.device) -> None:
        self._window = _Window()

        def buffer(heads: int, size: int) -> torch.Tensor:
            shape = (rows, heads, length, size)
            if device.type != "cpu":
                return torch.zeros(shape, dtype=dtype, device=device)
            # NumPy's zeros come from the system page by page as they are first written; torch writes its own at once.
            return torch.from_numpy(np.zeros(math.prod(shape) * dtype.itemsize, np.uint8)).view(dtype).view(shape)

        self._slots = [
            _SlotLayer(buffer(one.heads, one.key_size), buffer(one.heads, one.value_size), self._window)
            for one in shapes
        ]
        super().__init__(layers=[*self._slots])

    def at(self, first: int, positions: torch.Tensor, end: int) -> KVSlots:
        """Work on rows from `first` on, writing at `positions` [batch, tokens] and reading up to `end`."""
        self._window.first, self._window.positions, self._window.end = first, positions, end
        return self

    def clear(self, row: int) -> None:
        """Forget a row's states for good: values that are not numbers would spoil even what does not attend to them."""
        for layer in self._slots:
            layer.keys[row].zero_()
            layer.values[row].zero_()

    def move(self, source: int, target: int, length: int) -> None:
        """Copy the first `length` positions of a row over another."""
        for layer in self._slots:
            layer.keys[target, :, :length] = layer.keys[source, :, :length]
            layer.values[target, :, :length] = layer.values[source, :, :length]
