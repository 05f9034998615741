"""Keys and values that can be used again: a prompt that begins like an earlier text is read from where they part."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Callable

from .arena import Arena, Block, block_size

# What begins alike for fewer tokens is not worth a copy.
SHORTEST = 16
# Of how many tokens states are moved at most, to let a running sequence lie beside the others.
_MOVED = 4096


class Stored:
    """The first tokens of `tokens` whose states `block` holds. `kind` tells states of different adapters apart."""

    def __init__(self, kind: str | None, tokens: list[int], block: Block) -> None:
        self.kind, self.tokens, self.block = kind, tokens, block

    @property
    def key(self) -> tuple[str | None, tuple[int, ...]]:
        return self.kind, tuple(self.tokens[:SHORTEST])


class PrefixMemory:
    """Stored texts, of running sequences and of ended ones; the latter make room, oldest use first.

    Running sequences lie at the arena's low end, close together, so that attention reads many in one call: what has ended
    and lies there is moved away. `move(source, target, length)` copies the states of so many tokens from block to block.
    """

    def __init__(self, arena: Arena, move: Callable[[Block, Block, int], None]) -> None:
        self._arena = arena
        self._move = move
        self._alike: defaultdict[tuple[str | None, tuple[int, ...]], list[Stored]] = defaultdict(list)
        self._ended: OrderedDict[Stored, None] = OrderedDict()
        # The same by the start of their blocks.
        self._lying: dict[int, Stored] = {}
        self._stored = 0

    @property
    def ended_tokens(self) -> int:
        """How many tokens of the arena the texts take that have ended."""
        return self._stored

    def longest(self, kind: str | None, tokens: list[int]) -> tuple[Stored | None, int]:
        """What begins like `tokens` for longest, and for how many tokens; always fewer than all."""
        best, length = None, SHORTEST - 1
        for one in self._alike.get((kind, tuple(tokens[:SHORTEST])), ()):
            if (common := common_length(one.tokens, tokens[:-1])) > length:
                best, length = one, common
        if best is None:
            return None, 0
        if best in self._ended:
            self._ended.move_to_end(best)
        return best, length

    def share(self, kind: str | None, tokens: list[int], block: Block) -> Stored | None:
        """Offer a running sequence's states."""
        if len(tokens) < SHORTEST:
            return None
        stored = Stored(kind, tokens, block)
        self._alike[stored.key].append(stored)
        return stored

    def end(self, shared: Stored | None, ended: Stored) -> None:
        """A sequence has ended: keep its states while there is room, and nothing of which they are the continuation."""
        self._withdraw(shared)
        if len(ended.tokens) < SHORTEST:
            return self._arena.release(ended.block)
        for other in list(self._alike[ended.key]):
            if other in self._ended and ended.tokens[: len(other.tokens)] == other.tokens:
                self._forget(other)
        self._alike[ended.key].append(ended)
        self._ended[ended] = None
        self._lying[ended.block.start] = ended
        self._stored += ended.block.size

    def drop(self, shared: Stored | None, block: Block) -> None:
        """A sequence has ended, and its states are of no use."""
        self._withdraw(shared)
        self._arena.release(block)

    def take_over(self, stored: Stored) -> Block | None:
        """The block with an ended text's states, which now belongs to the caller; none if its sequence still runs."""
        if stored not in self._ended:
            return None
        block, length = stored.block, len(stored.tokens)
        self._lift(stored)
        self._withdraw(stored)
        clearing = None
        if self._arena.used - block.size > self._stored and length <= _MOVED:
            clearing = self._clearing(block.size, None, block.start)
        if clearing is None:
            return block
        nearer = self._cleared(*clearing, block.size, None)
        self._move(block, nearer, length)
        self._arena.release(block)
        return nearer

    def allocate(self, tokens: int, keep: Stored | None) -> Block | None:
        """A block, at the cost of ended texts other than `keep` if need be."""
        size = block_size(tokens)
        # One that runs alone has nobody to lie beside.
        if self._arena.used > self._stored and (clearing := self._clearing(size, keep, self._arena.tokens)):
            return self._cleared(*clearing, size, keep)
        while (block := self._arena.allocate(tokens)) is None:
            victim = next((one for one in self._ended if one is not keep), None)
            if victim is None:
                return None
            self._forget(victim)
        return block

    def _clearing(self, size: int, keep: Stored | None, below: int) -> tuple[int, list[Stored]] | None:
        """The lowest place for a block where at most ended texts lie, few enough to be moved; and these."""
        start = 0
        while start + size <= min(self._arena.tokens, below):
            place, lying = start, []
            while place < start + size:
                block = self._arena.block_at(place)
                stored = self._lying.get(block.start)
                if stored is not None:
                    lying.append(stored)
                if not self._arena.is_free(block) and (stored is None or stored is keep):
                    break
                place = block.start + block.size
            else:
                if sum(len(one.tokens) for one in lying) <= _MOVED:
                    return start, lying
            # Behind what is in the way, where the next block of this size may begin.
            start = max(start + size, (block.start + block.size) // size * size)
        return None

    def _cleared(self, start: int, lying: list[Stored], size: int, keep: Stored | None) -> Block:
        """The block at `start`, when the ended texts there have been moved, or forgotten where there is no room for them."""
        for one in lying:
            del self._lying[one.block.start]
            self._arena.release(one.block)
        block = self._arena.take(start, size)
        for one in lying:
            while (room := self._arena.allocate(one.block.size)) is None:
                victim = next(
                    other for other in self._ended if other is one or (other is not keep and other not in lying)
                )
                if victim is one:
                    break
                self._forget(victim)
            if room is None:
                del self._ended[one]
                self._stored -= one.block.size
                self._withdraw(one)
                continue
            self._move(one.block, room, len(one.tokens))
            one.block = room
            self._lying[room.start] = one
        return block

    def _forget(self, stored: Stored) -> None:
        self._lift(stored)
        self._withdraw(stored)
        self._arena.release(stored.block)

    def _lift(self, stored: Stored) -> None:
        del self._ended[stored], self._lying[stored.block.start]
        self._stored -= stored.block.size

    def _withdraw(self, stored: Stored | None) -> None:
        if stored is not None:
            bucket = self._alike[stored.key]
            bucket.remove(stored)
            if not bucket:
                del self._alike[stored.key]


def common_length(one: list[int], other: list[int]) -> int:
    """For how many tokens both begin alike, by halving: comparing slices is what Python does fast."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
