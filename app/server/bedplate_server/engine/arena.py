"""Where in the memory of keys and values each sequence lies: blocks of 2^n tokens, split and joined in pairs."""

from __future__ import annotations

import bisect
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
        # Start and size of all blocks, free or not, which together are the arena; and the free ones' starts by size, sorted.
        self._blocks: dict[int, int] = {}
        self._free: dict[int, list[int]] = {}
        # The largest blocks first; each start is then a multiple of the sizes that follow.
        start = 0
        for bit in range(self.tokens.bit_length(), -1, -1):
            size = 1 << bit
            if self.tokens & size:
                self._give(start, size)
                start += size

    @property
    def largest(self) -> int:
        """What one sequence can get at most."""
        return 1 << (self.tokens.bit_length() - 1) if self.tokens else 0

    def allocate(self, tokens: int) -> Block | None:
        """The lowest of the smallest free blocks that hold `tokens` tokens, split to size, if there is one."""
        wanted = size = block_size(tokens)
        while not self._free.get(size):
            size *= 2
            if size > self.largest:
                return None
        return self.take(self._free[size][0], wanted)

    def take(self, start: int, size: int) -> Block:
        """The block of `size` at `start`, a multiple of it; all of it must be free."""
        whole = self.block_at(start)
        self._free[whole.size].remove(whole.start)
        begin, halved = whole.start, whole.size
        while halved > size:
            halved //= 2
            lower = start < begin + halved
            self._give(begin + halved if lower else begin, halved)
            begin += 0 if lower else halved
        self._blocks[start] = size
        self.used += size
        return Block(start, size)

    def release(self, block: Block) -> None:
        """Give a block back, joined with its other half as long as that is free, too."""
        start, size = block.start, block.size
        self.used -= size
        while self.is_free(other := Block(start ^ size, size)):
            self._free[size].remove(other.start)
            del self._blocks[max(start, other.start)]
            start, size = min(start, other.start), size * 2
        self._give(start, size)

    def block_at(self, place: int) -> Block:
        """The block, free or not, in which a token lies."""
        size = SMALLEST
        while self._blocks.get(place - place % size) != size:
            size *= 2
        return Block(place - place % size, size)

    def is_free(self, block: Block) -> bool:
        """Whether exactly this is a free block."""
        starts = self._free.get(block.size, [])
        at = bisect.bisect_left(starts, block.start)
        return at < len(starts) and starts[at] == block.start

    def _give(self, start: int, size: int) -> None:
        self._blocks[start] = size
        bisect.insort(self._free.setdefault(size, []), start)
