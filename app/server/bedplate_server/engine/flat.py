"""Texts of different lengths read one behind another in a single row, so that no work goes into padding.

That is how a CPU encodes most texts per second. Whether a model can be read so is tried once, against the same texts
side by side with padding; models that cannot are read padded. Those that can are one graph (see tracing.py), if it
computes the same.
"""

from __future__ import annotations

import functools
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

from . import tracing
from .packing import rounded
from .scripted import scripted

_IMPLEMENTATION = "bedplate_flat"
# A text looks at so many keys or a multiple: what is over goes one by one through the fused kernel's exponentials, which
# takes longer than the others (bfloat16, 47 keys: 1.8 times as long as 48).
_KEYS = 16
# The lengths of the texts over which a graph is compared with the model.
_COMPARED = (1,), (1, 17, 33), (8,) * 12


class _Row(NamedTuple):
    """A row as a model is given it, and as its attention sees it."""

    # [1, tokens]: what products are filled up with is behind the texts; no text sees it, and nobody reads it.
    tokens: torch.Tensor
    positions: torch.Tensor
    # [texts, 5]: a text's first token and the one behind its last; the same of the keys that it is shown, its own among
    # them; where in `masks` is what is added to their scores so that it sees its own alone, -1 if they all are its own.
    plan: torch.Tensor
    masks: torch.Tensor


class _Reading:
    """The row that is being read, and how many layers have attended."""

    current: ClassVar[_Reading | None] = None

    def __init__(self, plan: torch.Tensor, masks: torch.Tensor) -> None:
        self.plan, self.masks = plan, masks
        self.layers = 0


@dataclass(frozen=True, slots=True)
class _Flat:
    """How a model is read flat: the number of its first position, and its graph if it has one."""

    first: int
    graph: tracing.Graph | None = None


# None if it cannot be read flat.
_KNOWN: WeakKeyDictionary[Any, _Flat | None] = WeakKeyDictionary()


def states_of(body: Any, inputs: list[list[int]]) -> torch.Tensor | None:
    """Hidden states [inputs, longest, size] of an encoder, zero behind each text's end; cheapest in the order of length.

    None if this model cannot be read flat, or is not on the CPU.
    """
    if body not in _KNOWN:
        _KNOWN[body] = _tried(body) if body.device.type == "cpu" else None
    known = _KNOWN[body]
    return None if known is None else _states(body, inputs, known)


def _states(body: Any, inputs: list[list[int]], known: _Flat) -> torch.Tensor:
    row = _laid_out(inputs, known.first, body.dtype)
    states = _read(body, *row) if known.graph is None else known.graph(*row)
    lengths = [len(one) for one in inputs]
    return pad_sequence(list(torch.split(states[: sum(lengths)], lengths)), batch_first=True)


def _read(
    body: Any, tokens: torch.Tensor, positions: torch.Tensor, plan: torch.Tensor, masks: torch.Tensor
) -> torch.Tensor:
    """Hidden states [tokens, size] of a row. Raises Unfit."""
    reading = _Reading.current = _Reading(plan, masks)
    try:
        states: torch.Tensor = body(input_ids=tokens, position_ids=positions).last_hidden_state[0]
    finally:
        _Reading.current = None
    if reading.layers != body.config.num_hidden_layers:
        raise tracing.Unfit
    return states


def _laid_out(inputs: list[list[int]], first: int, dtype: torch.dtype) -> _Row:
    """Texts one behind another; `first` is the number of a text's first position."""
    lengths = [len(one) for one in inputs]
    size = rounded(sum(lengths), dtype)
    spare = size - sum(lengths)
    tokens = torch.tensor([[*itertools.chain.from_iterable(inputs), *inputs[0][:1] * spare]])
    positions = torch.cat([*(torch.arange(first, first + length) for length in lengths), torch.full((spare,), first)])
    plan, masks, start, masked = [], [], 0, 0
    for length in lengths:
        shown = min(length + -length % _KEYS, size)
        begin = min(start, size - shown)
        plan.append([start, start + length, begin, begin + shown, masked if shown > length else -1])
        if shown > length:
            mask = torch.full((shown,), -torch.inf, dtype=dtype)
            mask[start - begin : start - begin + length] = 0
            masks.append(mask)
            masked += shown
        start += length
    return _Row(tokens, positions[None], torch.tensor(plan), torch.cat(masks) if masks else torch.empty(0, dtype=dtype))


def _tried(body: Any) -> _Flat | None:
    """Three short texts, flat and padded: nothing but rounding may differ."""
    config = body.config
    padding = getattr(config, "pad_token_id", None) or 0

    def texts(*lengths: int) -> list[list[int]]:
        return [
            [(padding + 1 + 7 * length + place) % config.vocab_size for place in range(length)] for length in lengths
        ]

    few = texts(5, 6, 7)
    longest = max(map(len, few))
    mask = torch.tensor([[int(place < len(one)) for place in range(longest)] for one in few])
    padded = torch.tensor([one + [padding] * (longest - len(one)) for one in few])
    wanted = body(input_ids=padded, attention_mask=mask).last_hidden_state * mask[:, :, None]
    before = config._attn_implementation
    try:
        body.set_attn_implementation(_IMPLEMENTATION)
        # RoBERTa's kind counts from behind the padding's id; where rounding is coarse both come near.
        found = {first: _states(body, few, _Flat(first)) for first in (0, padding + 1)}
        nearest = min(found, key=lambda first: float((found[first] - wanted).abs().max()))
        tracing.compare(found[nearest], wanted)
    except (tracing.Unfit, TypeError, ValueError, LookupError, AttributeError, RuntimeError):
        # It is not of the kind that can be read so, and is read padded.
        body.set_attn_implementation(before)
        return None
    plain = _Flat(nearest)
    with tracing.attempted():
        graph = tracing.traced(body, functools.partial(_read, body), tuple(_laid_out(few, nearest, body.dtype)))
        for lengths in _COMPARED:
            tracing.compare(
                _states(body, texts(*lengths), _Flat(nearest, graph)), _states(body, texts(*lengths), plain)
            )
        return _Flat(nearest, graph)
    return plain


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
    reading = _Reading.current
    if reading is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **options)
    asked = any(options.get(name) is not None for name in ("sliding_window", "softcap", "s_aux", "position_bias"))
    if asked or getattr(module, "is_causal", False):
        raise tracing.Unfit
    reading.layers += 1
    return scripted(_apart)(query, key, value, reading.plan, reading.masks, scaling), None


def _apart(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    plan: torch.Tensor,
    masks: torch.Tensor,
    scaling: float | None,
) -> torch.Tensor:
    """[1, tokens, heads, size] for [1, heads, tokens, size]: each of the row's texts by itself. TorchScript."""
    heads = query.size(1)
    # What no text writes is multiplied by nothing in others' sums, but has to be finite.
    result = query.new_zeros([1, query.size(2), heads, value.size(3)])
    texts: list[list[int]] = plan.tolist()
    for text in texts:
        start, stop, begin, end, mask_at = text
        mask: torch.Tensor | None = None
        if mask_at >= 0:
            mask = masks[mask_at : mask_at + end - begin].expand(stop - start, end - begin)
        found = scaled_dot_product_attention(
            query[:, :, start:stop],
            key[:, :, begin:end],
            value[:, :, begin:end],
            attn_mask=mask,
            scale=scaling,
            enable_gqa=key.size(1) != heads,
        )
        result[:, start:stop] = found.transpose(1, 2)
    return result


AttentionInterface.register(_IMPLEMENTATION, _attend)
AttentionMaskInterface.register(_IMPLEMENTATION, sdpa_mask)
