"""Texts of different lengths read one behind another in a single row, so that no work goes into padding.

That is how a CPU encodes most texts per second. Whether a model can be read so is tried once, against the same texts
side by side with padding; models that cannot are read padded.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

import torch
from torch.nn.functional import scaled_dot_product_attention
from torch.nn.utils.rnn import pad_sequence
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from .packing import rounded

_IMPLEMENTATION = "bedplate_flat"
# Texts of so many tokens attend by plain products.
_SHORT = 128


class _Unfit(Exception):
    """The model's attention asks for what is not done here."""


@dataclass(slots=True)
class _Row:
    """The lengths of the texts of the row that is being read, and how many layers have attended."""

    current: ClassVar[_Row | None] = None
    lengths: list[int]
    layers: int = 0


# By model: the number of its first position, none if it cannot be read flat.
_FIRST: WeakKeyDictionary[Any, int | None] = WeakKeyDictionary()


def states_of(body: Any, inputs: list[list[int]]) -> torch.Tensor | None:
    """Hidden states [inputs, longest, size] of an encoder, zero behind each text's end; cheapest in the order of length.

    None if this model cannot be read flat, or is not on the CPU.
    """
    if body not in _FIRST:
        _FIRST[body] = _tried(body) if body.device.type == "cpu" else None
    first = _FIRST[body]
    return None if first is None else _states(body, inputs, first)


def _states(body: Any, inputs: list[list[int]], first: int) -> torch.Tensor:
    lengths = [len(one) for one in inputs]
    # What a product would be padded with is a text of its own behind the others.
    read = sum(lengths)
    spare = rounded(read, body.dtype) - read
    tokens = torch.tensor([[*itertools.chain.from_iterable(inputs), *inputs[0][:1] * spare]])
    begun = [torch.arange(first, first + length) for length in lengths]
    positions = torch.cat([*begun, torch.full((spare,), first)])[None]
    _Row.current = _Row([*lengths, spare] if spare else lengths)
    try:
        states = body(input_ids=tokens, position_ids=positions).last_hidden_state[0]
        if _Row.current.layers != body.config.num_hidden_layers:
            raise _Unfit
    finally:
        _Row.current = None
    return pad_sequence(states[:read].split(lengths), batch_first=True)


def _tried(body: Any) -> int | None:
    """Three short texts, flat and padded: nothing but rounding may differ."""
    config = body.config
    padding = getattr(config, "pad_token_id", None) or 0
    texts = [[(padding + 1 + 7 * one + place) % config.vocab_size for place in range(5 + one)] for one in range(3)]
    longest = max(map(len, texts))
    mask = torch.tensor([[int(place < len(one)) for place in range(longest)] for one in texts])
    padded = torch.tensor([one + [padding] * (longest - len(one)) for one in texts])
    wanted = body(input_ids=padded, attention_mask=mask).last_hidden_state * mask[:, :, None]
    tolerance = float(wanted.abs().max()) * torch.finfo(wanted.dtype).eps ** 0.5
    before = config._attn_implementation
    try:
        body.set_attn_implementation(_IMPLEMENTATION)
        # RoBERTa's kind counts from behind the padding's id; where rounding is coarse both come near.
        apart = {first: float((_states(body, texts, first) - wanted).abs().max()) for first in (0, padding + 1)}
        nearest = min(apart, key=lambda first: apart[first])
        if apart[nearest] <= tolerance:
            return nearest
    except (_Unfit, TypeError, ValueError, LookupError, AttributeError, RuntimeError):
        pass  # It is not of the kind that can be read so, and is read padded.
    body.set_attn_implementation(before)
    return None


def _attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """What Transformers' attention modules call; every text of the row sees itself alone. [1, heads, tokens, size]"""
    row = _Row.current
    if row is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **options)
    if any(options.get(name) is not None for name in ("sliding_window", "softcap", "s_aux", "position_bias")):
        raise _Unfit
    row.layers += 1
    causal = bool(getattr(module, "is_causal", False))
    heads, size = query.shape[1], query.shape[3]
    plain = not causal and key.shape[1] == heads and query.dtype == torch.float32
    results, start = [], 0
    for length, alike in itertools.groupby(row.lengths):
        count = len(list(alike))
        stop = start + count * length
        if plain and length <= _SHORT:
            # Two products of a short text's heads where they lie, without a copy, are faster than the fused kernel.
            for begin in range(start, stop, length):
                queries, keys, values = (one[0, :, begin : begin + length] for one in (query, key, value))
                scores = torch.bmm(queries, keys.transpose(1, 2))
                scores *= size**-0.5 if scaling is None else scaling
                results.append(torch.bmm(scores.softmax(dim=-1), values).transpose(0, 1))
            start = stop
            continue
        # Texts of one length attend in one call.
        queries, keys, values = (
            one[0, :, start:stop].reshape(one.shape[1], count, length, one.shape[3]).transpose(0, 1)
            for one in (query, key, value)
        )
        found = scaled_dot_product_attention(
            queries, keys, values, is_causal=causal, scale=scaling, enable_gqa=key.shape[1] != heads
        )
        results.append(found.transpose(1, 2).reshape(count * length, heads, size))
        start = stop
    return torch.cat(results)[None], None


AttentionInterface.register(_IMPLEMENTATION, _attend)
AttentionMaskInterface.register(_IMPLEMENTATION, sdpa_mask)
