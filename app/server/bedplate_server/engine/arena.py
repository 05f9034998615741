"""Where in the memory of keys and values each sequence lies: blocks of 2^n tokens, split and joined in pairs."""

from __future__ import annotations

import heapq
from dataclasses import dataclass

SMALLEST = 64


@dataclass(frozen=True, slots=True)
class Block:
    """Tokens [start, start + size) of the arena; `start` is a multiple of `size`."""

    start: int
    size: int


def block_size(tokens: int) -> int:
    """The size of the block that holds `tokens`."""
    return max(SMALLEST, 1 << (tokens - 1).bit_length())


class Arena:
    """A buddy allocator over `tokens` tokens.

    Sequences of similar length come to lie at equal distances, so that attention reads many of them in one call; the
    lowest free block is taken, so that they also lie close together.
    """

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens - tokens % SMALLEST
        self.used = 0
        self._free: dict[int, list[int]] = {}
        # The largest blocks first; each start is then a multiple of the sizes that follow.
        start = 0
        for bit in range(self.tokens.bit_length(), -1, -1):
            size = 1 << bit
            if self.tokens & size:
                self._free[size] = [start]
                start += size

    @property
    def largest(self) -> int:
        """What one sequence can get at most."""
        return 1 << (self.tokens.bit_length() - 1) if self.tokens else 0

    def allocate(self, tokens: int) -> Block | None:
        """A block for `tokens` tokens, if there is one."""
        wanted = size = block_size(tokens)
        while not self._free.get(size):
            size *= 2
            if size > self.largest:
                return None
        start = heapq.heappop(self._free[size])
        while size > wanted:
            size //= 2
            heapq.heappush(self._free.setdefault(size, []), start + size)
        self.used += wanted
        return Block(start, wanted)

    def release(self, block: Block) -> None:
        """Give a block back, joined with its other half as long as that is free, too."""
        start, size = block.start, block.size
        self.used -= size
        while (other := start ^ size) in (free := self._free.setdefault(size, [])):
            free.remove(other)
            heapq.heapify(free)
            start, size = min(start, other), size * 2
        heapq.heappush(self._free.setdefault(size, []), start)
