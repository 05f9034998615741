"""Packed layers make what the plain ones made, alone and together, whatever is asked of them in between."""

from __future__ import annotations

import ctypes

import pytest
import torch
from bedplate_server.engine.packing import PackedLinear, Together, pack, places, rounded
from torch import nn


class Attention(nn.Module):
    def __init__(self, *, bias: bool, value_inputs: int = 24) -> None:
        super().__init__()
        self.q_proj, self.k_proj = nn.Linear(24, 32, bias=bias), nn.Linear(24, 8, bias=bias)
        self.v_proj, self.o_proj = nn.Linear(value_inputs, 8, bias=bias), nn.Linear(32, 24, bias=bias)


def packed_and_plain(*, bias: bool, value_inputs: int = 24) -> tuple[Attention, Attention]:
    torch.manual_seed(3)
    plain = Attention(bias=bias, value_inputs=value_inputs).requires_grad_(False)
    packed = Attention(bias=bias, value_inputs=value_inputs).requires_grad_(False)
    packed.load_state_dict(plain.state_dict())
    assert pack(packed) == 4
    return packed, plain


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("rows", [1, 2, 17, 40, 301])
def test_layers_of_one_input_make_what_each_made(bias: bool, rows: int) -> None:
    packed, plain = packed_and_plain(bias=bias)
    inputs, others = torch.randn(2, 1, rows, 24)
    for name in ("q_proj", "k_proj", "v_proj"):
        result = getattr(packed, name)(inputs)
        assert result.is_contiguous()
        torch.testing.assert_close(result, getattr(plain, name)(inputs))
    (together,) = (module for module in packed.modules() if isinstance(module, Together))
    assert not together._held, "nothing of a pass stays in memory"
    # Another tensor is another question, also out of turn.
    for name, asked in (("v_proj", others), ("q_proj", inputs), ("k_proj", others)):
        torch.testing.assert_close(getattr(packed, name)(asked), getattr(plain, name)(asked))


def test_layers_with_inputs_of_their_own_are_packed_alone() -> None:
    packed, plain = packed_and_plain(bias=False, value_inputs=40)
    assert isinstance(packed.v_proj, PackedLinear)
    inputs = torch.randn(1, 3, 40)
    torch.testing.assert_close(packed.v_proj(inputs), plain.v_proj(inputs))


def test_products_are_made_for_few_numbers_of_rows() -> None:
    sizes = {rows: rounded(rows) for rows in range(1, 4097)}
    assert all(rows <= size <= rows * 9 / 8 for rows, size in sizes.items())
    assert len(set(sizes.values())) < 90


@pytest.mark.parametrize("shape", [(24,), (17, 24), (3, 17, 24)])
def test_inputs_of_any_shape_are_taken(shape: tuple[int, ...]) -> None:
    packed, plain = packed_and_plain(bias=True, value_inputs=40)
    inputs = torch.randn((*shape[:-1], 32))
    torch.testing.assert_close(packed.o_proj(inputs), plain.o_proj(inputs))


def test_packed_weights_say_where_they_are() -> None:
    packed, _ = packed_and_plain(bias=True)
    found = places(packed)
    assert len(found) == 2, "the three with one input are one"
    for address, size in found:
        assert size >= 32 * 24 * 4
        assert any((ctypes.c_char * size).from_address(address).raw)
