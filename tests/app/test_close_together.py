"""Running sequences lie close together whatever has ended where, and what is stored moves with its states."""

from __future__ import annotations

import itertools
import random

import pytest
from bedplate_server.engine.arena import Arena, Block
from bedplate_server.engine.parts import spans
from bedplate_server.engine.prefix import PrefixMemory, Stored


class Memory:
    """A memory whose states are the tokens themselves, and a service that runs and ends sequences in it."""

    def __init__(self, tokens: int) -> None:
        self.states = [0] * tokens
        self.arena = Arena(tokens)
        self.prefixes = PrefixMemory(self.arena, self.move)
        self.running: list[tuple[Block, list[int]]] = []
        self.moved = 0

    def move(self, source: Block, target: Block, length: int) -> None:
        self.states[target.start : target.start + length] = self.states[source.start : source.start + length]
        self.moved += length

    def start(self, tokens: list[int], limit: int) -> bool:
        """As the scheduler does it: go on in the place of what begins alike, or copy it, or begin anew."""
        like, common = self.prefixes.longest(None, tokens)
        block = None
        if like is not None and common == len(like.tokens) and like.block.size >= limit:
            block = self.prefixes.take_over(like)
        if block is None:
            block = self.prefixes.allocate(limit, keep=like)
            if block is None:
                return False
            if like is not None:
                self.move(like.block, block, common)
        assert self.states[block.start : block.start + common] == tokens[:common]
        assert block.start % block.size == 0 and block.start + block.size <= self.arena.tokens
        self.states[block.start + common : block.start + len(tokens)] = tokens[common:]
        assert all(
            other.start + other.size <= block.start or block.start + block.size <= other.start
            for other, _ in self.running
        )
        self.running.append((block, tokens))
        return True

    def end(self, index: int) -> None:
        block, tokens = self.running.pop(index)
        assert self.states[block.start : block.start + len(tokens)] == tokens, "a running sequence was overwritten"
        self.prefixes.end(None, Stored(None, tokens, block))

    def check(self) -> None:
        stored = list(self.prefixes._ended)
        places = sorted([(one.block.start, one.block.size) for one in stored])
        places += [(block.start, block.size) for block, _ in self.running]
        places.sort()
        assert all(one + size <= other for (one, size), (other, _) in itertools.pairwise(places))
        assert sum(size for _, size in places) == self.arena.used
        for one in stored:
            assert self.states[one.block.start : one.block.start + len(one.tokens)] == one.tokens
            assert self.prefixes._lying[one.block.start] is one
        assert len(self.prefixes._lying) == len(stored)
        assert self.prefixes._stored == sum(one.block.size for one in stored)


@pytest.mark.parametrize("seed", range(20))
def test_nothing_is_lost_and_nothing_overlaps(seed: int) -> None:
    source, memory = random.Random(seed), Memory(8192 - 64 * (seed % 3))
    said: list[list[int]] = []
    for _ in range(600):
        if memory.running and (len(memory.running) > 12 or source.random() < 0.4):
            index = source.randrange(len(memory.running))
            said.append(memory.running[index][1])
            memory.end(index)
        else:
            begun = source.choice(said) if said and source.random() < 0.5 else []
            begun = begun[: source.choice([20, 70, len(begun)])]
            tokens = begun + [source.randrange(1000) for _ in range(source.choice([20, 40, 90, 300]))]
            if len(tokens) < 2000:
                memory.start(tokens, len(tokens) + source.choice([10, 100]))
        memory.check()


def test_running_sequences_stay_in_a_few_spans_however_long_it_goes_on() -> None:
    source, memory, numbers = random.Random(7), Memory(64 * 64), itertools.count()
    for turn in range(2000):
        while len(memory.running) < 16:
            number = next(numbers)
            assert memory.start([number * 100 + place for place in range(50)], 60)
        if turn > 100:
            blocks = sorted((block for block, _ in memory.running), key=lambda block: block.start)
            assert len(spans(blocks)) == 1
        memory.end(source.randrange(16))
    assert memory.moved <= 50 * next(numbers), "at most one text is moved for each that starts"


def test_one_alone_moves_nothing() -> None:
    memory = Memory(64 * 8)
    for number in range(50):
        tokens = [number * 100 + place for place in range(30)]
        assert memory.start(tokens, 40)
        memory.end(0)
        assert memory.start([*tokens, 1, 2, 3], 50), "the conversation goes on"
        memory.end(0)
    assert memory.moved == 0
