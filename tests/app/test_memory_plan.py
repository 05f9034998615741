"""How much memory is planned, and that what is planned is what is used."""

from __future__ import annotations

import itertools
import random

import pytest
from bedplate_server.engine.arena import Arena, Block, block_size
from bedplate_server.engine.memory import plan
from bedplate_server.errors import Refusal

TOKEN = 1000


def planned(tokens: int, *, model: int = 4096, wanted: int | None = None, sequences: int = 8) -> tuple[int, int, int]:
    made = plan(
        budget=tokens * TOKEN,
        bytes_per_token=TOKEN,
        model_context=model,
        wanted_context=wanted,
        wanted_sequences=sequences,
    )
    assert made.bytes == made.tokens * TOKEN <= tokens * TOKEN
    return made.sequences, made.context_length, made.tokens


def test_the_memory_is_spent_but_no_more_than_can_be_used() -> None:
    assert planned(10**9) == (8, 4096, 8 * 4096)
    assert planned(10_000) == (8, 4096, 9984)
    assert planned(10_000, wanted=1000) == (8, 1000, 8192)
    assert planned(10**9, model=300) == (8, 300, 8 * 512)


def test_with_little_memory_a_sequence_gets_what_there_is() -> None:
    assert planned(3000) == (8, 2048, 2944)
    assert planned(256) == (4, 256, 256)


@pytest.mark.parametrize(("tokens", "wanted"), [(200, None), (0, None), (1000, 1024)])
def test_too_little_memory_is_refused_with_numbers(tokens: int, wanted: int | None) -> None:
    with pytest.raises(Refusal, match=r"BP659 .* MiB"):
        planned(tokens, wanted=wanted)


def test_blocks_never_overlap_and_all_come_back() -> None:
    source, arena, held = random.Random(1), Arena(10_000), list[Block]()
    for _ in range(3000):
        if held and source.random() < 0.5:
            arena.release(held.pop(source.randrange(len(held))))
        elif (block := arena.allocate(wanted := source.choice([1, 64, 65, 200, 700, 2000]))) is not None:
            assert block.size == block_size(wanted) >= wanted
            assert block.start % block.size == 0
            held.append(block)
        places = sorted((block.start, block.start + block.size) for block in held)
        assert all(left[1] <= right[0] for left, right in itertools.pairwise(places))
        assert not places or places[-1][1] <= arena.tokens
        assert arena.used == sum(block.size for block in held)
    for block in held:
        arena.release(block)
    assert arena.allocate(arena.largest) is not None, "the parts were not joined again"


def test_a_full_arena_says_so() -> None:
    arena = Arena(256)
    blocks = [arena.allocate(64) for _ in range(4)]
    assert None not in blocks
    assert arena.allocate(1) is None
    assert Arena(256).allocate(257) is None
