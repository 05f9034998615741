"""Keys and values that can be used again: a prompt that begins like an earlier text is read from where they part."""

from __future__ import annotations

from collections import OrderedDict, defaultdict

from .arena import Arena, Block

# What begins alike for fewer tokens is not worth a copy.
SHORTEST = 16


class Stored:
    """The first tokens of `tokens` whose states `block` holds. `kind` tells states of different adapters apart."""

    def __init__(self, kind: str | None, tokens: list[int], block: Block) -> None:
        self.kind, self.tokens, self.block = kind, tokens, block

    @property
    def key(self) -> tuple[str | None, tuple[int, ...]]:
        return self.kind, tuple(self.tokens[:SHORTEST])


class PrefixMemory:
    """Stored texts, of running sequences and of ended ones; the latter make room, oldest use first."""

    def __init__(self, arena: Arena) -> None:
        self._arena = arena
        self._alike: defaultdict[tuple[str | None, tuple[int, ...]], list[Stored]] = defaultdict(list)
        self._ended: OrderedDict[Stored, None] = OrderedDict()

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

    def drop(self, shared: Stored | None, block: Block) -> None:
        """A sequence has ended, and its states are of no use."""
        self._withdraw(shared)
        self._arena.release(block)

    def take_over(self, stored: Stored) -> Block | None:
        """The block of an ended text, which now belongs to the caller; none if its sequence still runs."""
        if stored not in self._ended:
            return None
        del self._ended[stored]
        self._withdraw(stored)
        return stored.block

    def allocate(self, tokens: int, keep: Stored | None) -> Block | None:
        """A block, at the cost of ended texts other than `keep` if need be."""
        while (block := self._arena.allocate(tokens)) is None:
            victim = next((one for one in self._ended if one is not keep), None)
            if victim is None:
                return None
            self._forget(victim)
        return block

    def _forget(self, stored: Stored) -> None:
        del self._ended[stored]
        self._withdraw(stored)
        self._arena.release(stored.block)

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
