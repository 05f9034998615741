"""Memory of keys and values: one buffer per layer, allocated once, in which sequences have blocks (see arena.py)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from .arena import Block


@dataclass(frozen=True, slots=True)
class KVShape:
    """Heads and head sizes of one layer's keys and values."""

    heads: int
    key_size: int
    value_size: int

    @property
    def elements_per_token(self) -> int:
        return self.heads * (self.key_size + self.value_size)


class KVLayer:
    """One layer's buffers, [heads, tokens, size]."""

    def __init__(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        self.keys = keys
        self.values = values

    def write(self, places: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Store states [heads, places, size] at `places`."""
        self.keys.index_copy_(1, places, keys)
        self.values.index_copy_(1, places, values)

    def rows(self, first: int, stride: int, count: int, begin: int, end: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Positions [begin, end) of the `count` blocks that lie `stride` tokens apart from `first` on, without copying.

        Keys and values, [count, heads, end - begin, size].
        """

        def view(states: torch.Tensor) -> torch.Tensor:
            heads, tokens, size = states.shape
            shape, strides = (count, heads, end - begin, size), (stride * size, tokens * size, size, 1)
            return states.as_strided(shape, strides, (first + begin) * size)

        return view(self.keys), view(self.values)


class KVMemory:
    """The buffers of all layers for `tokens` tokens, and for one behind them that belongs to nobody."""

    def __init__(self, shapes: list[KVShape], tokens: int, dtype: torch.dtype, device: torch.device) -> None:
        self.tokens = tokens

        def buffer(heads: int, size: int) -> torch.Tensor:
            shape = (heads, tokens + 1, size)
            if device.type != "cpu":
                return torch.zeros(shape, dtype=dtype, device=device)
            # NumPy's zeros come from the system page by page as they are first written; torch writes its own at once.
            return torch.from_numpy(np.zeros(math.prod(shape) * dtype.itemsize, np.uint8)).view(dtype).view(shape)

        self.layers = [KVLayer(buffer(one.heads, one.key_size), buffer(one.heads, one.value_size)) for one in shapes]

    def clear(self, block: Block) -> None:
        """Forget a block's states for good: values that are not numbers would spoil even what does not attend to them."""
        part = slice(block.start, block.start + block.size)
        for layer in self.layers:
            layer.keys[:, part].zero_()
            layer.values[:, part].zero_()

    def copy(self, source: int, target: int, length: int) -> None:
        """Copy the states of `length` tokens."""
        for layer in self.layers:
            for states in (layer.keys, layer.values):
                states[:, target : target + length] = states[:, source : source + length]
