"""Attention over sequences that lie one after another in a single row of tokens, each with its own keys and values.

Transformers' models call `attend` as their attention implementation. While a `Pass` is under way it stores the new keys
and values and lets every sequence's tokens look at that sequence alone; no token is ever padding for another. Outside
one it is Transformers' own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from .kv import KVLayer, KVMemory, KVShape, Places

IMPLEMENTATION = "bedplate"
# The layer kinds whose memory is keys and values by position, which is what kv.py keeps.
SERVED_LAYER_TYPES = {"full_attention", "sliding_attention", "chunked_attention"}


class Reach:
    """How far back the tokens of a layer look: everywhere, over a sliding window, or to the start of their chunk."""

    def __init__(self, kind: str, config: Any) -> None:
        self.kind = kind
        self._window = config.sliding_window if kind == "sliding_attention" else 0
        self._chunk = config.attention_chunk_size if kind == "chunked_attention" else 0

    def first(self, position: Any) -> Any:
        """The first position (a number or a tensor of them) that a token at `position` sees."""
        if self._window:
            earliest = position - self._window + 1
            return earliest.clamp(min=0) if isinstance(earliest, torch.Tensor) else max(earliest, 0)
        return position // self._chunk * self._chunk if self._chunk else position * 0


def reaches(config: Any, layers: int) -> list[Reach]:
    """Per layer; layers of one kind share theirs. Transformers' create_masks_for_generate decides by the same rule."""
    kinds = getattr(config, "layer_types", None)
    if kinds is None:
        one = "full_attention"
        if getattr(config, "sliding_window", None) is not None:
            one = "sliding_attention"
        elif getattr(config, "attention_chunk_size", None) is not None:
            one = "chunked_attention"
        kinds = [one] * layers
    known = {kind: Reach(kind, config) for kind in set(kinds)}
    return [known[kind] for kind in kinds]


class Part(Protocol):
    """Some of a pass's tokens, which attend together: those from `start` to `stop` in the row."""

    start: int
    stop: int

    def attend(self, layer: KVLayer, reach: Reach, query: torch.Tensor, options: Options) -> torch.Tensor:
        """The result [tokens, heads, size] for the query [heads, tokens, size] of this part's tokens."""


class Options:
    """What a model wants of its attention beside the mask."""

    __slots__ = ("scaling", "sinks", "softcap")

    def __init__(self, scaling: float | None, softcap: float | None, sinks: torch.Tensor | None) -> None:
        self.scaling, self.softcap, self.sinks = scaling, softcap, sinks

    def attention(
        self, query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor | None
    ) -> torch.Tensor:
        return attention(query, keys, values, mask, self.scaling, self.softcap, self.sinks)


def attention(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    mask: torch.Tensor | None,
    scaling: float | None,
    softcap: float | None,
    sinks: torch.Tensor | None,
) -> torch.Tensor:
    """[rows, kv heads, queries, size]; the queries of one kv head's group lie behind one another. TorchScript, too."""
    if softcap is None and sinks is None and not _many_small(query):
        return scaled_dot_product_attention(query, keys, values, attn_mask=mask, scale=scaling)
    if scaling is None:
        scaling = query.size(-1) ** -0.5
    scores = torch.matmul(query, keys.transpose(2, 3)).float() * scaling
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    if mask is not None:
        scores = scores + mask
    if sinks is None:
        return torch.matmul(scores.softmax(dim=-1).to(values.dtype), values)
    heads, queries = keys.size(1), query.size(2)
    ends = sinks.float().view(1, heads, -1, 1)
    ends = ends.repeat_interleave(queries // ends.size(2), dim=2).expand(query.size(0), -1, -1, 1)
    weights = torch.cat([scores, ends], dim=-1).softmax(dim=-1)[..., :-1]
    return torch.matmul(weights.to(values.dtype), values)


def _many_small(query: torch.Tensor) -> bool:
    """Whether these are a CPU's many rows of few queries each, in a type whose products are exact enough for scores.

    PyTorch's fused kernel takes one row's head after another; two batches of products are faster.
    """
    return query.is_cpu and query.dtype == torch.float32 and query.size(0) >= 4 and query.size(2) <= 16


class Attending(Protocol):
    """What computes the model's attention."""

    def attend(
        self, index: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, options: Options
    ) -> torch.Tensor:
        """Result [1, tokens, heads, size] of layer `index`; all arguments [1, heads, tokens, size]."""


class Pass:
    """One forward pass: its parts, and where in `memory` the new keys and values of its tokens go."""

    current: ClassVar[Attending | None] = None
    # The adapters in use, each with the indexes of its tokens; see adapters.py.
    adapters: ClassVar[list[tuple[str, torch.Tensor]]] = []

    def __init__(self, memory: KVMemory, reach: list[Reach], places: Places, parts: Sequence[Part]) -> None:
        self._memory, self._reach, self._places, self._parts = memory, reach, places, parts

    def attend(
        self, index: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, options: Options
    ) -> torch.Tensor:
        layer, reach = self._memory.layers[index], self._reach[index]
        layer.write(self._places, key[0], value[0])
        if len(self._parts) == 1:
            return self._parts[0].attend(layer, reach, query[0], options)[None]
        return torch.cat(
            [part.attend(layer, reach, query[0, :, part.start : part.stop], options) for part in self._parts]
        )[None]


class Probe:
    """A pass over one token that learns what each layer stores per token, rather than guess it from the config."""

    def __init__(self) -> None:
        self.shapes: dict[int, KVShape] = {}

    def attend(
        self, index: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, options: Options
    ) -> torch.Tensor:
        if index in self.shapes:
            raise ValueError("a layer attends twice, and has one place for keys and values")
        self.shapes[index] = KVShape(key.shape[1], key.shape[3], value.shape[3])
        return query.new_zeros(1, query.shape[2], query.shape[1], value.shape[3])


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    softcap: float | None = None,
    s_aux: torch.Tensor | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """What Transformers' attention modules call."""
    current = Pass.current
    if current is None and softcap is None and s_aux is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **options)
    if current is None:
        return _padded(query, key, value, attention_mask, Options(scaling, softcap, s_aux)), None
    # An attention module of Transformers has its layer's index; nn.Module does not know of it.
    return current.attend(module.layer_idx, query, key, value, Options(scaling, softcap, s_aux)), None  # type: ignore[arg-type]


def _padded(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None, options: Options
) -> torch.Tensor:
    """Attention of a padded batch by `options`; `mask` [rows, 1, queries, keys] says what is seen, none means causal."""
    rows, heads, queries, size = query.shape
    groups = heads // key.shape[1]
    if mask is None:
        mask = torch.ones(queries, key.shape[2], dtype=torch.bool, device=query.device)[None, None]
        mask = mask.tril(key.shape[2] - queries)
    if mask.dtype == torch.bool:
        # Not infinite: padding behind a sliding window sees nothing at all, and must still be a number.
        hidden = torch.finfo(query.dtype).min
        mask = torch.zeros(mask.shape, dtype=query.dtype, device=query.device).masked_fill_(~mask, hidden)
    grouped = query.reshape(rows, key.shape[1], groups * queries, size)
    result = options.attention(grouped, key, value, mask.repeat(1, 1, groups, 1))
    return result.view(rows, heads, queries, -1).transpose(1, 2)


AttentionInterface.register(IMPLEMENTATION, attend)
AttentionMaskInterface.register(IMPLEMENTATION, sdpa_mask)
