"""Memory of keys and values: one buffer per layer, allocated once, in which sequences have blocks (see arena.py).

In a block the heads lie one behind another, each with all its positions: so that blocks that lie side by side are one
batch of matrices, which a product takes without copying.
"""

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


class Places:
    """Where tokens are stored: their positions in their sequences' blocks, and those blocks' starts and sizes, [tokens]."""

    def __init__(self, positions: torch.Tensor, starts: torch.Tensor, sizes: torch.Tensor) -> None:
        self.positions, self._starts, self._sizes = positions, starts, sizes
        self._rows: dict[int, torch.Tensor] = {}

    def rows(self, heads: int) -> torch.Tensor:
        """The rows of a layer with so many heads, [heads * tokens], by head."""
        if heads not in self._rows:
            self._rows[heads] = self.along(self.positions, heads).flatten()
        return self._rows[heads]

    def along(self, positions: torch.Tensor, heads: int) -> torch.Tensor:
        """The rows of any `positions` [..., tokens] in these tokens' blocks, [..., heads, tokens]."""
        head = torch.arange(heads, device=positions.device)[:, None]
        return positions[..., None, :] + self._starts * heads + self._sizes * head


class KVLayer:
    """One layer's buffers, [tokens * heads, size]."""

    def __init__(self, heads: int, keys: torch.Tensor, values: torch.Tensor) -> None:
        self.heads, self.keys, self.values = heads, keys, values

    def write(self, places: Places, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Store states [heads, tokens, size]."""
        rows = places.rows(self.heads)
        store(self.keys, rows, keys)
        store(self.values, rows, values)

    def blocks(self, first: Block, count: int, begin: int, end: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Positions [begin, end) of `first` and the blocks of its size that follow, `count` together, without copying.

        Keys and values, [count, heads, end - begin, size].
        """
        keys, values = (
            stored(states, self.heads, first.start, first.size, count, begin, end)
            for states in (self.keys, self.values)
        )
        return keys, values


def store(memory: torch.Tensor, rows: torch.Tensor, states: torch.Tensor) -> None:
    """Write states [heads, tokens, size] into these rows [heads * tokens] of a layer's buffer. TorchScript, too."""
    memory.index_copy_(0, rows, states.reshape(-1, states.size(2)))


def stored(memory: torch.Tensor, heads: int, start: int, length: int, count: int, begin: int, end: int) -> torch.Tensor:
    """[count, heads, end - begin, size]: positions [begin, end) of `count` blocks of `length` from `start` on.

    TorchScript, too.
    """
    size = memory.size(1)
    return memory.as_strided(
        [count, heads, end - begin, size],
        [length * heads * size, length * size, size, 1],
        (start * heads + begin) * size,
    )


class KVMemory:
    """The buffers of all layers for `tokens` tokens, and for one behind them that belongs to nobody."""

    def __init__(self, shapes: list[KVShape], tokens: int, dtype: torch.dtype, device: torch.device) -> None:
        self.tokens = tokens

        def buffer(heads: int, size: int) -> torch.Tensor:
            shape = ((tokens + 1) * heads, size)
            if device.type != "cpu":
                return torch.zeros(shape, dtype=dtype, device=device)
            # NumPy's zeros come from the system page by page as they are first written; torch writes its own at once.
            return torch.from_numpy(np.zeros(math.prod(shape) * dtype.itemsize, np.uint8)).view(dtype).view(shape)

        self.layers = [
            KVLayer(one.heads, buffer(one.heads, one.key_size), buffer(one.heads, one.value_size)) for one in shapes
        ]

    def clear(self, block: Block) -> None:
        """Forget a block's states for good: values that are not numbers would spoil even what does not attend to them."""
        for layer in self.layers:
            for states in layer.blocks(block, 1, 0, block.size):
                states.zero_()

    def copy(self, source: Block, target: Block, length: int) -> None:
        """Copy the states of the first `length` tokens."""
        for layer in self.layers:
            for old, new in zip(layer.blocks(source, 1, 0, length), layer.blocks(target, 1, 0, length), strict=True):
                new.copy_(old)
