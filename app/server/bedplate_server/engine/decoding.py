"""Attention of a pass over spans alone as TorchScript: in a graph, Python would take longer than a small layer's attention."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from .attention import Options, Part, Pass, Reach
from .kv import KVMemory, Places, store, stored
from .parts import Span, among


class Layout:
    """What a graph is given of each pass, beside tokens and positions, and what of it is whose layer's."""

    def __init__(self, memory: KVMemory, reach: Sequence[Reach]) -> None:
        self._states = tuple(states for layer in memory.layers for states in (layer.keys, layer.values))
        self._heads = sorted({layer.heads for layer in memory.layers})
        self._kinds = list(dict.fromkeys(reach))
        self._layers = [
            (self._heads.index(layer.heads), self._kinds.index(one))
            for layer, one in zip(memory.layers, reach, strict=True)
        ]
        self._none = self._states[0].new_empty(0)
        self._nothing = torch.empty(0, dtype=torch.long)
        self._no_spans = torch.empty(0, 0, dtype=torch.long)

    def tensors(self, places: Places, parts: Sequence[Part]) -> tuple[torch.Tensor, ...]:
        """By number of heads, the rows to write; by kind of reach, the spans (none for other parts); masks; holes; states."""
        rows = [places.rows(heads) for heads in self._heads]
        plans = [self._no_spans] * len(self._kinds)
        masks, holes = self._none, self._nothing
        spans = [part for part in parts if isinstance(part, Span)]
        if len(spans) == len(parts):
            plans, masks, holes = self._described(spans)
        return (*rows, *plans, masks, holes, *self._states)

    def of_layer(self, index: int, tensors: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        """What `attend` wants of `tensors` for a layer: keys, values, rows, plan, masks, holes."""
        heads, kind = self._layers[index]
        behind = len(self._heads) + len(self._kinds)
        masks, holes = tensors[behind : behind + 2]
        keys, values = tensors[behind + 2 + 2 * index :][:2]
        return keys, values, tensors[heads], tensors[len(self._heads) + kind], masks, holes

    def _described(self, parts: Sequence[Span]) -> tuple[list[torch.Tensor], torch.Tensor, torch.Tensor]:
        plans, masks, holes = [], _Joined(self._none), _Joined(self._nothing)
        gaps = [holes.add(torch.cat(found)) if (found := part.holes(self._none.device)) else -1 for part in parts]
        for kind in self._kinds:
            # The span's numbers, then where its mask and its holes begin, -1 if it has none.
            numbers: list[list[int]] = []
            for part, gap in zip(parts, gaps, strict=True):
                begin, mask = part.seen(kind, self._none)
                numbers.append([*part.numbers(begin), -1 if mask is None else masks.add(mask.flatten()), gap])
            plans.append(torch.tensor(numbers))
        return plans, masks.tensor(), holes.tensor()


class _Joined:
    """Tensors one behind another."""

    def __init__(self, none: torch.Tensor) -> None:
        self._none = none
        self._found: list[torch.Tensor] = []
        self._length = 0

    def add(self, one: torch.Tensor) -> int:
        """Where it begins."""
        self._found.append(one)
        self._length += len(one)
        return self._length - len(one)

    def tensor(self) -> torch.Tensor:
        if len(self._found) < 2:
            return self._found[0] if self._found else self._none
        return torch.cat(self._found)


def _attend_anyhow(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    layer: int,
    scaling: float | None,
    softcap: float | None,
    sinks: torch.Tensor | None,
) -> torch.Tensor:
    """The operator: what the pass under way makes of it, whatever its parts are."""
    assert Pass.current is not None
    return Pass.current.attend(layer, query, key, value, Options(scaling, softcap, sinks))


_OPERATORS: Any = torch.library.Library("bedplate", "DEF")  # type: ignore[no-untyped-call]  # it has no types
_OPERATORS.define(
    "attend(Tensor query, Tensor key, Tensor value, int layer, float? scaling, float? softcap, Tensor? sinks) -> Tensor"
)
_OPERATORS.impl("attend", _attend_anyhow, "CPU")


def attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    layer: int,
    keys: torch.Tensor,
    values: torch.Tensor,
    rows: torch.Tensor,
    plan: torch.Tensor,
    masks: torch.Tensor,
    holes: torch.Tensor,
    scaling: float | None,
    softcap: float | None,
    sinks: torch.Tensor | None,
) -> torch.Tensor:
    """[1, tokens, heads, size] for [1, heads, tokens, size]; without spans, what the operator makes of it. TorchScript."""
    spans: list[list[int]] = plan.tolist()
    if len(spans) == 0:
        found: torch.Tensor = torch.ops.bedplate.attend(query, key, value, layer, scaling, softcap, sinks)
        return found
    store(keys, rows, key[0])
    store(values, rows, value[0])
    heads = key.size(1)
    results: list[torch.Tensor] = []
    for span in spans:
        start, stop, first, length, count, begin, end, mask_at, hole_at = span
        mask: torch.Tensor | None = None
        spread: torch.Tensor | None = None
        members: torch.Tensor | None = None
        if mask_at >= 0:
            wide = end - begin
            mask = masks.as_strided([count, 1, 1, wide], [wide, wide, wide, 1], mask_at)
        if hole_at >= 0:
            spread = holes[hole_at : hole_at + count]
            members = holes[hole_at + count : hole_at + count + stop - start]
        held = stored(keys, heads, first, length, count, begin, end)
        weighed = stored(values, heads, first, length, count, begin, end)
        asked = query[0][:, start:stop]
        results.append(among(asked, held, weighed, mask, spread, members, scaling, softcap, sinks))
    result = results[0] if len(results) == 1 else torch.cat(results)
    return result.unsqueeze(0)
