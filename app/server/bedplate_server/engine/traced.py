"""A CPU's pass over answers and prompts as one graph (see tracing.py), for any number of tokens.

Attention over spans alone is in it (decoding.py); where prompts are read it stays what attention.py makes of it, an
operator that the graph calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from . import tracing
from .arena import SMALLEST, Block
from .attention import Options, Part, Pass, Reach
from .decoding import Layout, attend
from .kv import KVMemory, Places
from .parts import PromptChunk, Span
from .scripted import scripted

# How many tokens of a prompt the graph is traced over, and over how many it is then compared with the model, by turns.
_TRACED, _COMPARED = 5, (2, 1, 17)


class _Listening:
    """The pass while the graph is traced: leaves the call of each layer's attention in the graph."""

    # What a graph is given beside tokens, positions and indexes; see decoding.py.
    given: tuple[torch.Tensor, ...] = ()

    def __init__(self, told: Pass, layout: Layout) -> None:
        self._told, self._layout = told, layout

    def attend(
        self, index: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, options: Options
    ) -> torch.Tensor:
        own = self._layout.of_layer(index, self.given)
        Pass.current = self._told
        try:
            result: torch.Tensor = scripted(attend)(
                query, key, value, index, *own, options.scaling, options.softcap, options.sinks
            )
            return result
        finally:
            Pass.current = self


class TracedPass:
    """The graph of `model`, packed already; None in its place where it has none."""

    def __init__(self, model: Any, mask: torch.Tensor, memory: KVMemory, reach: list[Reach]) -> None:
        self._model, self._mask = model, mask
        self._memory, self._reach = memory, reach
        self._layout = Layout(memory, reach)
        self._graph: Any = None

    @classmethod
    @torch.inference_mode()
    def of(
        cls, model: Any, mask: torch.Tensor, memory: KVMemory, reach: list[Reach], context: int
    ) -> TracedPass | None:
        """Traced and compared in `memory`, where nothing may be stored yet; None if the graph cannot be had."""
        made = cls(model, mask, memory, reach)

        def example(count: int) -> tuple[tuple[torch.Tensor, ...], Places, list[Part]]:
            count = min(count, context)
            block = Block(0, SMALLEST)
            tokens = torch.arange(count)
            inputs = tokens[None] % model.get_input_embeddings().num_embeddings, tokens[None], tokens[count // 2 :]
            places = Places(tokens, torch.full_like(tokens, block.start), torch.full_like(tokens, block.size))
            # A single token is an answer's, too.
            return inputs, places, [Span(0, [block]).at([1]) if count == 1 else PromptChunk(0, count, block, 0)]

        try:
            with tracing.attempted():
                made._trace(*example(_TRACED))
                for count in _COMPARED:
                    made._compare(*example(count))
                return made
        finally:
            memory.clear(Block(0, SMALLEST))
        return None

    def forward(self, inputs: tuple[torch.Tensor, ...], places: Places, parts: Sequence[Part]) -> torch.Tensor:
        """Logits [keep, vocabulary] for tokens and positions [1, tokens] and the indexes [keep]."""
        Pass.current = Pass(self._memory, self._reach, places, parts)
        try:
            logits: torch.Tensor = self._graph(*inputs, self._layout.tensors(places, parts))
            return logits
        finally:
            Pass.current = None

    def _logits(self, tokens: torch.Tensor, positions: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self._model(
            input_ids=tokens, position_ids=positions, attention_mask=self._mask, use_cache=False, logits_to_keep=keep
        ).logits
        return logits[0]

    def _trace(self, inputs: tuple[torch.Tensor, ...], places: Places, parts: Sequence[Part]) -> None:
        listening = _Listening(Pass(self._memory, self._reach, places, parts), self._layout)

        def heard(*inputs: Any) -> torch.Tensor:
            *own, listening.given = inputs
            return self._logits(*own)

        Pass.current = listening
        try:
            self._graph = tracing.traced(self._model, heard, (*inputs, self._layout.tensors(places, parts)))
        finally:
            Pass.current = None

    def _compare(self, inputs: tuple[torch.Tensor, ...], places: Places, parts: Sequence[Part]) -> None:
        Pass.current = Pass(self._memory, self._reach, places, parts)
        try:
            wanted = self._logits(*inputs)
        finally:
            Pass.current = None
        tracing.compare(self.forward(inputs, places, parts), wanted)
