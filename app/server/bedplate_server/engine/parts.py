"""The two kinds of parts of a pass: a chunk of one prompt, and one new token each of many running sequences."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn.functional import scaled_dot_product_attention

from .arena import Block
from .attention import Options, Reach, attention
from .kv import KVLayer

# A span may skip that many unused blocks: looking at them costs less than another call.
_GAP = 2


class PromptChunk:
    """Tokens `start` to `stop` of the pass: those of one sequence from position `begin` on, which has `block`."""

    def __init__(self, start: int, stop: int, block: Block, begin: int) -> None:
        self.start, self.stop = start, stop
        self._block, self._begin, self._end = block, begin, begin + stop - start
        self._masks: dict[str, tuple[int, torch.Tensor | None]] = {}

    def attend(self, layer: KVLayer, reach: Reach, query: torch.Tensor, options: Options) -> torch.Tensor:
        heads, tokens, size = query.shape
        if reach.kind not in self._masks:
            self._masks[reach.kind] = self._mask(reach, query)
        first, mask = self._masks[reach.kind]
        keys, values = layer.blocks(self._block, 1, first, self._end)
        groups = heads // keys.shape[1]
        if mask is None and options.softcap is None and options.sinks is None:
            result = scaled_dot_product_attention(
                query[None], keys, values, is_causal=tokens > 1, scale=options.scaling, enable_gqa=groups > 1
            )[0]
        else:
            grouped = query.reshape(1, keys.shape[1], groups * tokens, size)
            mask = self._causal(reach, query, first) if mask is None else mask
            result = options.attention(grouped, keys, values, mask.repeat(groups, 1)[None, None])
            result = result.view(heads, tokens, -1)
        # As Transformers' own implementations give it.
        return result.transpose(0, 1).contiguous()

    def _mask(self, reach: Reach, query: torch.Tensor) -> tuple[int, torch.Tensor | None]:
        """The first position that any token sees, and the mask from there on; none where causal says it all."""
        first = reach.first(self._begin)
        if self._begin == 0 and reach.first(self._end - 1) == 0:
            return 0, None
        if self._end - self._begin == 1:
            return first, None
        return first, self._causal(reach, query, first)

    def _causal(self, reach: Reach, query: torch.Tensor, first: int) -> torch.Tensor:
        """[tokens, positions from `first` on], additive."""
        keys = torch.arange(first, self._end, device=query.device)
        queries = torch.arange(self._begin, self._end, device=query.device)[:, None]
        hidden = (keys > queries) | (keys < reach.first(queries))
        return torch.zeros(hidden.shape, dtype=query.dtype, device=query.device).masked_fill_(hidden, -torch.inf)


class Span:
    """Tokens `start` to `stop` of the pass: the newest ones of sequences whose blocks lie at equal distances.

    `members` are their places among the `count` blocks from `first` on; the others' blocks are skipped over.
    """

    def __init__(self, start: int, blocks: Sequence[Block]) -> None:
        self.start, self.stop = start, start + len(blocks)
        self._first = blocks[0]
        self._members = [(block.start - self._first.start) // self._first.size for block in blocks]
        self._count = self._members[-1] + 1
        self._lengths: list[int] = []
        self._masks: dict[str, tuple[int, torch.Tensor | None]] = {}
        self._index: tuple[torch.Tensor, torch.Tensor] | None = None

    def at(self, lengths: list[int]) -> Span:
        """Work on sequences of these lengths, the new tokens included."""
        self._lengths = lengths
        self._masks.clear()
        return self

    def attend(self, layer: KVLayer, reach: Reach, query: torch.Tensor, options: Options) -> torch.Tensor:
        begin, mask = self.seen(reach, query)
        keys, values = layer.blocks(self._first, self._count, begin, max(self._lengths))
        spread, members = self.holes(query.device) or (None, None)
        return among(query, keys, values, mask, spread, members, options.scaling, options.softcap, options.sinks)

    def numbers(self, begin: int) -> list[int]:
        """Its tokens, its blocks, and which positions of those, of which the first is `begin`, for a graph."""
        return [self.start, self.stop, self._first.start, self._first.size, self._count, begin, max(self._lengths)]

    def seen(self, reach: Reach, like: torch.Tensor) -> tuple[int, torch.Tensor | None]:
        """The first position that any token sees, and the mask from there on; none if all see the same."""
        if reach.kind not in self._masks:
            self._masks[reach.kind] = self._mask(reach, like)
        return self._masks[reach.kind]

    def _mask(self, reach: Reach, like: torch.Tensor) -> tuple[int, torch.Tensor | None]:
        firsts = [reach.first(length - 1) for length in self._lengths]
        first, end = min(firsts), max(self._lengths)
        if min(self._lengths) == end and self._count == len(self._lengths):
            return first, None
        # Blocks that are skipped over see something, too: nothing at all would be no number.
        seen = [(first, end)] * self._count
        for place, low, length in zip(self._members, firsts, self._lengths, strict=True):
            seen[place] = (low, length)
        low, high = torch.tensor(seen, device=like.device)[:, :, None].unbind(dim=1)
        keys = torch.arange(first, end, device=like.device)
        hidden = (keys >= high) | (keys < low)
        mask = torch.zeros(hidden.shape, dtype=like.dtype, device=like.device).masked_fill_(hidden, -torch.inf)
        return first, mask[:, None, None]

    def holes(self, device: torch.device) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Which token stands at each block's place (any, where there is none), and the places of the tokens."""
        if self._count == len(self._members):
            return None
        if self._index is None:
            spread = [0] * self._count
            for token, place in enumerate(self._members):
                spread[place] = token
            self._index = torch.tensor(spread, device=device), torch.tensor(self._members, device=device)
        return self._index


def among(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    mask: torch.Tensor | None,
    spread: torch.Tensor | None,
    members: torch.Tensor | None,
    scaling: float | None,
    softcap: float | None,
    sinks: torch.Tensor | None,
) -> torch.Tensor:
    """[tokens, heads, size] for the query [heads, tokens, size] of a span. TorchScript, too."""
    heads, tokens, size = query.shape
    rows = query.transpose(0, 1)
    if spread is not None:
        rows = rows.index_select(0, spread)
    grouped = rows.reshape(keys.size(0), keys.size(1), heads // keys.size(1), size)
    result = attention(grouped, keys, values, mask, scaling, softcap, sinks)
    if members is not None:
        result = result.index_select(0, members)
    return result.reshape(tokens, heads, -1)


def spans(blocks: list[Block]) -> list[Span]:
    """Spans over all blocks, which must be sorted by size and start; their tokens lie in that order in the pass."""
    found: list[Span] = []
    begin = 0
    for index in range(1, len(blocks) + 1):
        if index < len(blocks):
            last, block = blocks[index - 1], blocks[index]
            if block.size == last.size and block.start - last.start <= (_GAP + 1) * block.size:
                continue
        found.append(Span(begin, blocks[begin:index]))
        begin = index
    return found
