"""Texts of different lengths read one behind another in a single row, so that no work goes into padding.

That is how a CPU encodes most texts per second. Whether a model can be read so is tried once, against the same texts
side by side with padding; models that cannot are read padded.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch.nn.functional import scaled_dot_product_attention
from torch.nn.utils.rnn import pad_sequence
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from .packing import rounded

_IMPLEMENTATION = "bedplate_flat"
# A text looks at so many keys or a multiple: what is over goes one by one through the fused kernel's exponentials, which
# takes longer than the others (bfloat16, 47 keys: 1.8 times as long as 48).
_KEYS = 16


class _Unfit(Exception):
    """The model's attention asks for what is not done here."""


class _Text(NamedTuple):
    """Where a text lies in its row; the keys that it is shown, its own among them, and what makes it see those alone."""

    place: slice
    shown: slice
    # [tokens, keys], added to the scores; none where all keys are its own.
    bias: torch.Tensor | None


@dataclass(slots=True)
class _Row:
    """The texts of the row that is being read, and how many layers have attended."""

    current: ClassVar[_Row | None] = None
    texts: list[_Text]
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
    read = sum(lengths)
    # What products are filled up with is behind the texts; no text sees it, and nobody reads it.
    size = rounded(read, body.dtype)
    tokens = torch.tensor([[*itertools.chain.from_iterable(inputs), *inputs[0][:1] * (size - read)]])
    begun = [torch.arange(first, first + length) for length in lengths]
    positions = torch.cat([*begun, torch.full((size - read,), first)])[None]
    _Row.current = _Row(_laid_out(lengths, size, body.dtype))
    try:
        states = body(input_ids=tokens, position_ids=positions).last_hidden_state[0]
        if _Row.current.layers != body.config.num_hidden_layers:
            raise _Unfit
    finally:
        _Row.current = None
    return pad_sequence(states[:read].split(lengths), batch_first=True)


def _laid_out(lengths: list[int], size: int, dtype: torch.dtype) -> list[_Text]:
    """Texts one behind another in a row of `size` tokens."""
    texts, start = [], 0
    for length in lengths:
        shown = min(length + -length % _KEYS, size)
        first = min(start, size - shown)
        bias = None
        if shown > length:
            bias = torch.full((shown,), -torch.inf, dtype=dtype)
            bias[start - first : start - first + length] = 0
            bias = bias.expand(length, shown)
        texts.append(_Text(slice(start, start + length), slice(first, first + shown), bias))
        start += length
    return texts


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
    asked = any(options.get(name) is not None for name in ("sliding_window", "softcap", "s_aux", "position_bias"))
    if asked or getattr(module, "is_causal", False):
        raise _Unfit
    row.layers += 1
    _, heads, tokens, size = query.shape
    # What no text writes is multiplied by nothing in others' sums, but has to be finite.
    result = query.new_zeros(tokens, heads, size)
    for text in row.texts:
        queries, keys, values = query[:, :, text.place], key[:, :, text.shown], value[:, :, text.shown]
        found = scaled_dot_product_attention(
            queries, keys, values, attn_mask=text.bias, scale=scaling, enable_gqa=key.shape[1] != heads
        )
        result[text.place] = found[0].transpose(0, 1)
    return result[None], None


AttentionInterface.register(_IMPLEMENTATION, _attend)
AttentionMaskInterface.register(_IMPLEMENTATION, sdpa_mask)
