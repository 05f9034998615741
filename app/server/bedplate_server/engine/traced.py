"""A CPU's pass as one TorchScript graph: a small model's stock classes spend as long in Python as in their products.

The graph is traced once, from the model's own code, and takes any number of tokens. Attention over spans alone is in it
(decoding.py); where prompts are read it stays what attention.py makes of it, an operator that the graph calls. A model
whose code looks at values, or of which the graph computes something else, runs as it is.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import structlog
import torch
from torch import nn
from torch.jit._trace import TracerWarning
from torch.overrides import TorchFunctionMode

from .arena import SMALLEST, Block
from .attention import Options, Part, Pass, Reach
from .decoding import Layout, attend
from .kv import KVMemory, Places
from .packing import PackedLinear
from .parts import PromptChunk, Span
from .scripted import scripted

log = structlog.get_logger(__name__)

# How many tokens of a prompt the graph is traced over, and over how many it is then compared with the model, by turns.
_TRACED, _COMPARED = 5, (2, 1, 17)


class _Unfit(Exception):
    """The graph is not the model."""


def _unoptimized() -> Any:
    """Further optimized a graph would be 1 % faster, and twice as large."""
    return torch.jit.optimized_execution(False)  # type: ignore[attr-defined]  # its module does not list it in __all__


class _Whole(nn.Module):
    """What is traced: logits [keep, vocabulary] for tokens and positions [1, tokens] and the indexes `keep`."""

    # What a graph is given beside these; see decoding.py.
    given: tuple[torch.Tensor, ...] = ()

    def __init__(self, model: Any, mask: torch.Tensor) -> None:
        super().__init__()
        # In a tuple: a module in a module is traced as one, and all of its parts are compiled for nothing.
        self._model, self._mask = (model,), mask
        # Packed weights have a layout of their own, which a graph takes from a module's buffers alone.
        packed = [layer for layer in model.modules() if isinstance(layer, PackedLinear)]
        for number, layer in enumerate(packed):
            self.register_buffer(f"packed_{number}", layer.packed)

    def forward(
        self, tokens: torch.Tensor, positions: torch.Tensor, keep: torch.Tensor, given: tuple[torch.Tensor, ...]
    ) -> torch.Tensor:
        _Whole.given = given
        logits: torch.Tensor = self._model[0](
            input_ids=tokens, position_ids=positions, attention_mask=self._mask, use_cache=False, logits_to_keep=keep
        ).logits
        return logits[0]


class _Listening:
    """The pass while the graph is traced: leaves the call of each layer's attention in the graph."""

    def __init__(self, told: Pass, layout: Layout) -> None:
        self._told, self._layout = told, layout

    def attend(
        self, index: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, options: Options
    ) -> torch.Tensor:
        own = self._layout.of_layer(index, _Whole.given)
        Pass.current = self._told
        try:
            result: torch.Tensor = scripted(attend)(
                query, key, value, index, *own, options.scaling, options.softcap, options.sinks
            )
            return result
        finally:
            Pass.current = self


class _Lean(TorchFunctionMode):
    """Has the graph do without operators that cost a small layer more than they do for it."""

    def __init__(self) -> None:
        super().__init__()
        # The newest product of two tensors, and those.
        self._product: tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None = None

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        one = args[0] if args else None
        if not isinstance(one, torch.Tensor) or not one.is_floating_point() or not one.dim():
            return func(*args, **given)
        name = getattr(func, "__name__", "")
        if one.dtype == torch.float32:
            match name, *args[1:]:
                case ("to", torch.float32) | ("float",) if not given:
                    return one
                case "mean", -1:
                    return one.sum(-1, **given) * _constant(1 / _features(one.shape), one)
                case "add", float() as number if not given:
                    return one + _constant(number, one)
                case "mul", float() as number if not given:
                    return one * _constant(number, one)
        plain = len(args) == 2 and not given and isinstance(args[1], torch.Tensor) and args[1].dtype == one.dtype
        product = self._product
        if plain and name == "add" and product is not None and args[1] is product[0]:
            return torch.addcmul(one, product[1], product[2])
        result = func(*args, **given)
        if plain and name == "mul":
            self._product = result, one, args[1]
        elif name.endswith("_"):
            # It may have changed one of them.
            self._product = None
        if getattr(func, "__self__", None) is torch.Tensor.shape and one.dim() > 1:
            # The number of features is the model's; what follows from it is known before any pass.
            return *result[:-1], _features(result)
        return result


def _constant(number: float, like: torch.Tensor) -> torch.Tensor:
    """Of one dimension: of a number, and of a tensor without dimensions, an operator makes a new tensor in every pass."""
    return like.new_tensor([number])


def _features(shape: Any) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TracerWarning)
        return int(shape[-1])


class TracedPass:
    """The graph of `model`, packed already; None in its place where it has none."""

    def __init__(self, model: Any, mask: torch.Tensor, memory: KVMemory, reach: list[Reach]) -> None:
        self._whole = _Whole(model, mask).eval()
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

    def forward(self, inputs: tuple[torch.Tensor, ...], places: Places, parts: Sequence[Part]) -> torch.Tensor:
        """Logits [keep, vocabulary] for tokens and positions [1, tokens] and the indexes [keep]."""
        Pass.current = Pass(self._memory, self._reach, places, parts)
        try:
            with _unoptimized():
                logits: torch.Tensor = self._graph(*inputs, self._layout.tensors(places, parts))
            return logits
        finally:
            Pass.current = None

    def _trace(self, inputs: tuple[torch.Tensor, ...], places: Places, parts: Sequence[Part]) -> None:
        told = Pass(self._memory, self._reach, places, parts)
        given = self._layout.tensors(places, parts)
        Pass.current = _Listening(told, self._layout)
        try:
            with warnings.catch_warnings(record=True) as heard:
                warnings.simplefilter("always")
                with _Lean(), _unoptimized():
                    # PyTorch gives its tracer no types.
                    traced: Any = torch.jit.trace(self._whole, (*inputs, given), check_trace=False)  # type: ignore[no-untyped-call]
                self._graph = torch.jit.freeze(traced)
        finally:
            Pass.current = None
            _Whole.given = ()
        for warning in heard:
            if issubclass(warning.category, TracerWarning):
                raise _Unfit(str(warning.message))

    def _compare(self, inputs: tuple[torch.Tensor, ...], places: Places, parts: Sequence[Part]) -> None:
        """Nothing but rounding may differ."""
        Pass.current = Pass(self._memory, self._reach, places, parts)
        try:
            wanted = self._whole(*inputs, ())
        finally:
            Pass.current = None
        tolerance = float(wanted.abs().max()) * torch.finfo(wanted.dtype).eps ** 0.5
        found = self.forward(inputs, places, parts)
        if found.shape != wanted.shape or not float((found - wanted).abs().max()) <= tolerance:
            raise _Unfit("it computes something else.")
