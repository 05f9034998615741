"""A CPU's pass as one TorchScript graph: a small model's stock classes spend as long in Python as in their products.

The graph is traced once, from the model's own code, and takes any number of tokens. Attention stays what attention.py
makes of it: an operator that the graph calls. A model whose code looks at values, or of which the graph computes
something else, runs as it is.
"""

from __future__ import annotations

import warnings
from typing import Any, ClassVar

import structlog
import torch
from torch import nn
from torch.jit._trace import TracerWarning

from .arena import SMALLEST, Block
from .attention import Options, Pass, Reach
from .kv import KVMemory, Places
from .packing import PackedLinear
from .parts import PromptChunk

log = structlog.get_logger(__name__)

# How many tokens the graph is traced over, and over how many it is then compared with the model, by turns; its first run
# also optimizes it.
_TRACED, _COMPARED = 5, (2, 1, 17)


class _Unfit(Exception):
    """The graph is not the model."""


class _Whole(nn.Module):
    """What is traced: logits [keep, vocabulary] for tokens and positions [1, tokens] and the indexes `keep`."""

    def __init__(self, model: Any, mask: torch.Tensor) -> None:
        super().__init__()
        # In a tuple: a module in a module is traced as one, and all of its parts are compiled for nothing.
        self._model, self._mask = (model,), mask
        # Packed weights have a layout of their own, which a graph takes from a module's buffers alone.
        packed = [layer for layer in model.modules() if isinstance(layer, PackedLinear)]
        for number, layer in enumerate(packed):
            self.register_buffer(f"packed_{number}", layer.packed)

    def forward(self, tokens: torch.Tensor, positions: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self._model[0](
            input_ids=tokens, position_ids=positions, attention_mask=self._mask, use_cache=False, logits_to_keep=keep
        ).logits
        return logits[0]


class _Listening:
    """The pass while the graph is traced: learns what each layer wants, and leaves the operator's call in the graph."""

    def __init__(self, told: Pass, options: dict[int, Options]) -> None:
        self._told, self._options = told, options

    def attend(
        self, index: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, options: Options
    ) -> torch.Tensor:
        self._options[index] = options
        Pass.current = self._told
        try:
            result: torch.Tensor = torch.ops.bedplate.attend(query, key, value, index)
            return result
        finally:
            Pass.current = self


class TracedPass:
    """The graph of `model`, packed already; None in its place where it has none."""

    # Whose graph is running.
    _running: ClassVar[TracedPass | None] = None

    def __init__(self, model: Any, mask: torch.Tensor) -> None:
        self._whole = _Whole(model, mask).eval()
        self._options: dict[int, Options] = {}
        self._graph: Any = None

    @classmethod
    @torch.inference_mode()
    def of(
        cls, model: Any, mask: torch.Tensor, memory: KVMemory, reach: list[Reach], context: int
    ) -> TracedPass | None:
        """Traced and compared in `memory`, where nothing may be stored yet; None if the graph cannot be had."""
        made = cls(model, mask)

        def example(count: int) -> tuple[tuple[torch.Tensor, ...], Pass]:
            count = min(count, context)
            block = Block(0, SMALLEST)
            tokens = torch.arange(count)
            inputs = tokens[None] % model.get_input_embeddings().num_embeddings, tokens[None], tokens[count // 2 :]
            places = Places(tokens, torch.full_like(tokens, block.start), torch.full_like(tokens, block.size))
            return inputs, Pass(memory, reach, places, [PromptChunk(0, count, block, 0)])

        try:
            made._trace(*example(_TRACED))
            for count in _COMPARED:
                made._compare(*example(count))
        except Exception as error:
            # Whatever it is: the model itself is at hand.
            log.info("no graph for this model", error=f"{type(error).__name__}: {error}"[:300])
            return None
        finally:
            memory.clear(Block(0, SMALLEST))
        return made

    def forward(self, inputs: tuple[torch.Tensor, ...], current: Pass) -> torch.Tensor:
        """Logits [keep, vocabulary] for tokens and positions [1, tokens] and the indexes [keep]."""
        Pass.current, TracedPass._running = current, self
        try:
            logits: torch.Tensor = self._graph(*inputs)
            return logits
        finally:
            Pass.current = TracedPass._running = None

    def _trace(self, inputs: tuple[torch.Tensor, ...], current: Pass) -> None:
        Pass.current, TracedPass._running = _Listening(current, self._options), self
        try:
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always")
                traced: Any = torch.jit.trace(self._whole, inputs, check_trace=False)  # type: ignore[no-untyped-call]
                self._graph = torch.jit.freeze(traced)
        finally:
            Pass.current = TracedPass._running = None
        for warning in told:
            if issubclass(warning.category, TracerWarning):
                raise _Unfit(str(warning.message))

    def _compare(self, inputs: tuple[torch.Tensor, ...], current: Pass) -> None:
        """Nothing but rounding may differ."""
        Pass.current = current
        try:
            wanted = self._whole(*inputs)
        finally:
            Pass.current = None
        tolerance = float(wanted.abs().max()) * torch.finfo(wanted.dtype).eps ** 0.5
        found = self.forward(inputs, current)
        if found.shape != wanted.shape or not float((found - wanted).abs().max()) <= tolerance:
            raise _Unfit("it computes something else.")

    @staticmethod
    def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, index: int) -> torch.Tensor:
        """The operator: the attention of layer `index` in the pass under way."""
        current, running = Pass.current, TracedPass._running
        assert current is not None and running is not None
        return current.attend(index, query, key, value, running._options[index])


_OPERATORS: Any = torch.library.Library("bedplate", "DEF")  # type: ignore[no-untyped-call]
_OPERATORS.define("attend(Tensor query, Tensor key, Tensor value, int layer) -> Tensor")
_OPERATORS.impl("attend", TracedPass.attend, "CPU")
