"""Keys and values lie where their places say, whatever the blocks' sizes."""

from __future__ import annotations

import pytest
import torch
from bedplate_server.engine.arena import Block
from bedplate_server.engine.kv import KVLayer, KVMemory, KVShape, Places

SHAPES = [KVShape(3, 4, 4), KVShape(2, 6, 8)]
LARGE, SMALL, FIRST = Block(256, 256), Block(64, 64), Block(0, 64)


def memory() -> KVMemory:
    return KVMemory(SHAPES, 512, torch.float32, torch.device("cpu"))


def stored(kept: KVMemory, block: Block, length: int, seed: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Random states of `length` tokens, written to the block one layer after another."""
    torch.manual_seed(seed)
    count = torch.ones(length, dtype=torch.long)
    places = Places(torch.arange(length), count * block.start, count * block.size)
    found = []
    for shape, layer in zip(SHAPES, kept.layers, strict=True):
        keys = torch.randn(shape.heads, length, shape.key_size)
        values = torch.randn(shape.heads, length, shape.value_size)
        layer.write(places, keys, values)
        found.append((keys, values))
    return found


def assert_there(
    kept: KVMemory,
    block: Block,
    states: list[tuple[torch.Tensor, torch.Tensor]],
    begin: int = 0,
    end: int | None = None,
) -> None:
    for layer, (keys, values) in zip(kept.layers, states, strict=True):
        stop = keys.shape[1] if end is None else end
        for seen, wanted in zip(layer.blocks(block, 1, begin, stop), (keys, values), strict=True):
            assert torch.equal(seen[0], wanted[:, begin:stop])


def test_blocks_of_all_sizes_hold_their_own() -> None:
    kept = memory()
    written = {
        block: stored(kept, block, length, n)
        for n, (block, length) in enumerate([(LARGE, 200), (SMALL, 64), (FIRST, 5), (Block(128, 128), 128)])
    }
    for block, states in written.items():
        assert_there(kept, block, states)
    assert_there(kept, LARGE, written[LARGE], 17, 90)
    kept.clear(SMALL)
    assert not any(bool(one.any()) for layer in kept.layers for one in layer.blocks(SMALL, 1, 0, 64))
    for block in (LARGE, FIRST):
        assert_there(kept, block, written[block])


def test_neighbours_are_read_together() -> None:
    kept = memory()
    one, other = stored(kept, FIRST, 50, 1), stored(kept, SMALL, 60, 2)
    for number, layer in enumerate(kept.layers):
        keys, values = layer.blocks(FIRST, 2, 10, 50)
        assert keys.shape[:3] == values.shape[:3] == (2, layer.heads, 40)
        assert torch.equal(keys[0], one[number][0][:, 10:50])
        assert torch.equal(values[1], other[number][1][:, 10:50])
        # One batch of matrices, as products take them without a copy.
        assert keys.view(2 * layer.heads, 40, -1).data_ptr() == keys.data_ptr()


@pytest.mark.parametrize(("source", "target"), [(SMALL, LARGE), (LARGE, SMALL)])
def test_states_move_between_blocks_of_different_sizes(source: Block, target: Block) -> None:
    kept = memory()
    states = stored(kept, source, 40, 3)
    kept.copy(source, target, 40)
    assert_there(kept, target, states)


def test_the_place_that_belongs_to_nobody_is_nobodys() -> None:
    kept = memory()
    states = stored(kept, LARGE, 256, 4)
    nowhere = Places(torch.tensor([0]), torch.tensor([kept.tokens]), torch.tensor([1]))
    for shape, layer in zip(SHAPES, kept.layers, strict=True):
        layer.write(nowhere, torch.ones(shape.heads, 1, shape.key_size), torch.ones(shape.heads, 1, shape.value_size))
    assert_there(kept, LARGE, states)


def test_layers_of_one_kind_share_their_rows() -> None:
    places = Places(torch.tensor([3, 0]), torch.tensor([64, 256]), torch.tensor([64, 256]))
    assert places.rows(2).tolist() == [131, 512, 195, 768]
    assert places.rows(2) is places.rows(2)
    layer = KVLayer(2, torch.zeros(1024, 1), torch.zeros(1024, 1))
    layer.write(places, torch.ones(2, 2, 1), torch.ones(2, 2, 1))
    assert layer.keys.nonzero()[:, 0].tolist() == [131, 195, 512, 768]
