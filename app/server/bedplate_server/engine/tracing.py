"""What a model's own code does, as one TorchScript graph: a small model spends as long in Python as in its products.

A model whose code looks at values, or of which the graph computes something else, has none and runs as it is.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import structlog
import torch
from torch import nn
from torch.jit._trace import TracerWarning
from torch.overrides import TorchFunctionMode

from .packing import PackedLinear

log = structlog.get_logger(__name__)


class Unfit(Exception):
    """The graph is not the model."""


@contextlib.contextmanager
def attempted() -> Iterator[None]:
    """Whatever goes wrong within is logged alone: the model itself is at hand."""
    try:
        yield
    except Exception as error:
        log.info("no graph for this model", error=f"{type(error).__name__}: {error}"[:300])


def traced(model: nn.Module, function: Callable[..., torch.Tensor], inputs: tuple[Any, ...]) -> Graph:
    """The graph of `function`, which calls `model`, for inputs of any length. Raises Unfit."""
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        with Lean(), _unoptimized():
            # PyTorch gives its tracer no types.
            graph: Any = torch.jit.trace(_Whole(model, function).eval(), inputs, check_trace=False)  # type: ignore[no-untyped-call]
        graph = torch.jit.freeze(graph)
    for warning in heard:
        if issubclass(warning.category, TracerWarning):
            raise Unfit(str(warning.message))
    return Graph(graph)


def compare(found: torch.Tensor, wanted: torch.Tensor) -> None:
    """Nothing but rounding may differ. Raises Unfit."""
    tolerance = float(wanted.abs().max()) * torch.finfo(wanted.dtype).eps ** 0.5
    if found.shape != wanted.shape or not float((found - wanted).abs().max()) <= tolerance:
        raise Unfit("it computes something else.")


class Graph:
    """What was traced, to be called."""

    def __init__(self, module: Any) -> None:
        self.module = module

    def __call__(self, *inputs: Any) -> torch.Tensor:
        with _unoptimized():
            result: torch.Tensor = self.module(*inputs)
        return result


def _unoptimized() -> Any:
    """Further optimized a graph would be 1 % faster, and twice as large."""
    return torch.jit.optimized_execution(False)  # type: ignore[attr-defined]  # its module does not list it in __all__


class _Whole(nn.Module):
    """What is traced."""

    def __init__(self, model: nn.Module, function: Callable[..., torch.Tensor]) -> None:
        super().__init__()
        # Not the model: a module in a module is traced as one, and all of its parts are compiled for nothing.
        self._function = function
        # Packed weights have a layout of their own, which a graph takes from a module's buffers alone.
        packed = [layer for layer in model.modules() if isinstance(layer, PackedLinear)]
        for number, layer in enumerate(packed):
            self.register_buffer(f"packed_{number}", layer.packed)

    def forward(self, *inputs: Any) -> torch.Tensor:
        return self._function(*inputs)


class Lean(TorchFunctionMode):
    """Has the graph do without operators that cost a small layer more than they do for it."""

    def __init__(self) -> None:
        super().__init__()
        # The newest product of two tensors, and those.
        self._product: tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None = None

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        if func is nn.functional.embedding and given.get("max_norm") is None:
            # What not to learn is a training's concern, but compared with a size, which a graph is not to look at.
            indices, weight = args
            return torch.embedding(weight, indices)
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
