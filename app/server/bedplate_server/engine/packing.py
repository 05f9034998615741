"""Linear layers on a CPU in the layout that its fastest products want, which is not that of checkpoints."""

from __future__ import annotations

import mmap
from typing import Any

import torch
from torch import nn
from transformers.activations import GELUActivation

from .cpu import is_intels
from .scripted import scripted

# The number of rows the layout is chosen for; measured best over 1 to 512 (bench/results).
_ROWS = 16
# A weight that the embedding shares would be there twice: up to this size that is worth it.
_SHARED_BYTES = 2**28
# Up to that size a model's weights stay in the cache from one token to the next. Transposed, 20 MB take 0.65 to 0.8 of the
# packed ones' time with 1 to 64 rows; 390 MB 0.75 with one row and 1.2 to 1.5 times theirs with 4 to 16.
_CACHED_BYTES = 2**25
# Layers that Transformers' models give the same input, one after the other: one product makes the results of all. And
# whether models then take those apart, which they may do only with what is contiguous.
_TOGETHER = {
    ("q_proj", "k_proj", "v_proj"): True,
    ("query", "key", "value"): False,
    ("gate_proj", "up_proj"): False,
}
# A layer of Transformers' encoders and the activation of what it makes.
_ACTIVATED = ("dense", "intermediate_act_fn")

_annotate: Any = torch.jit.annotate


def rounded(rows: int, dtype: torch.dtype) -> int:
    """The number of rows a product is made for: eight different ones for each doubling, of the large ones every 16th.

    oneDNN prepares a kernel for every number of rows and keeps it, half a megabyte and 0.2 ms each; from 256 rows on
    that costs less than rows that nobody asked for. In bfloat16 there are four for each doubling, of the large ones,
    too: with AMX a kernel takes 3.5 ms, a product less, and sixteen rows as long as one.
    """
    parts, most = (4, rows) if dtype == torch.bfloat16 else (8, 16)
    step = 1
    while step * 2 * parts <= rows and step < most:
        step *= 2
    return rows + -rows % step


def _product(inputs: torch.Tensor, packed: torch.Tensor, bias: torch.Tensor | None, gelu: bool) -> torch.Tensor:
    rows = inputs.numel() // inputs.size(-1)
    more = rounded(rows, inputs.dtype) - rows
    padded = more > 0 and inputs.size(-2) == rows
    if padded:
        inputs = torch.constant_pad_nd(inputs, [0, 0, 0, more])
    none = _annotate(list[int | float | complex | None], [])
    kind, algorithm = ("gelu", "none") if gelu else ("none", "")
    result: torch.Tensor = torch.ops.mkldnn._linear_pointwise(inputs, packed, bias, kind, none, algorithm)
    if padded:
        result = result[..., :rows, :]
    return result


class PackedLinear(nn.Module):
    """A linear layer with its weight in oneDNN's layout; the plain one is there only where an embedding has it anyway.

    `gelu`: with that activation of what it makes, while it is still in the cache.
    """

    def __init__(
        self, weight: torch.Tensor, bias: torch.Tensor | None, *, shared: bool = False, gelu: bool = False
    ) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self.packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous(), _ROWS)
        self.bias = bias
        self.weight = _kept(weight, shared=shared)
        self._gelu = gelu
        # A traced graph takes a list of no scalars, as a product wants one, from TorchScript alone.
        self._product = scripted(_product)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self._product(inputs, self.packed, self.bias, self._gelu)
        return result

    # Without Module's look for hooks, which costs a small layer as much as its work.
    __call__ = forward

    @property
    def place(self) -> tuple[int, int]:
        """Address and bytes of the packed weight."""
        return torch.ops.mkldnn.data_ptr(self.packed), torch.ops.mkldnn._nbytes(self.packed)


class TransposedLinear(nn.Module):
    """A linear layer with its weight by inputs: what MKL reads faster than oneDNN its own layout, if it is in the cache."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None, *, shared: bool = False) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        # Lines whole kilobytes apart have the same few places in the cache.
        apart = self.out_features + (16 if self.out_features % 256 == 0 else 0)
        lines = weight.new_empty(self.in_features, apart)[:, : self.out_features]
        self.packed = lines.copy_(weight.detach().t())
        self.bias = bias
        self.weight = _kept(weight, shared=shared)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(inputs, self.packed.t(), self.bias)

    __call__ = forward

    @property
    def place(self) -> tuple[int, int]:
        """Address and bytes of the weight."""
        return self.packed.data_ptr(), self.packed.untyped_storage().nbytes()


def _kept(weight: torch.Tensor, *, shared: bool) -> torch.Tensor:
    """The plain weight where an embedding has it anyway; else its shape and type alone, which some models ask for."""
    return weight if shared else weight.to("meta")


KINDS = (PackedLinear, TransposedLinear)


class Together(nn.Module):
    """Layers with one input, packed as one; the first that is called works for the others, too."""

    def __init__(self, linears: list[nn.Linear], kind: Any, *, contiguous: bool) -> None:
        super().__init__()
        weight = _joined([linear.weight for linear in linears])
        bias = None if linears[0].bias is None else torch.cat([linear.bias for linear in linears])
        self._linear = kind(weight, bias)
        self._sizes = [linear.out_features for linear in linears]
        self._contiguous = contiguous
        # In one list, because setting a Module's attribute takes long: the inputs, then the results. Empty between passes.
        self._held: list[torch.Tensor] = []

    def forward(self, index: int, inputs: torch.Tensor) -> torch.Tensor:
        """What layer `index` makes of `inputs`."""
        held = self._held
        if not held or inputs is not held[0]:
            parts = torch.split(self._linear(inputs), self._sizes, dim=-1)
            held[:] = inputs, *(part.contiguous() if self._contiguous else part for part in parts)
        result = held[index + 1]
        if index == len(self._sizes) - 1:
            held.clear()
        return result

    __call__ = forward


def _joined(weights: list[torch.Tensor]) -> torch.Tensor:
    """One behind the other, in a mapping of its own: in the heap it would leave a gap between the packed ones."""
    space = mmap.mmap(-1, sum(weight.nbytes for weight in weights))
    rows = sum(len(weight) for weight in weights)
    joined = torch.frombuffer(space, dtype=weights[0].dtype).view(rows, -1)
    return torch.cat([weight.detach() for weight in weights], out=joined)


class Member(nn.Module):
    """One of the layers of a `Together`."""

    def __init__(self, together: Together, index: int, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self._together, self._index = together, index

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self._together(self._index, inputs)

    __call__ = forward


def pack(model: nn.Module) -> int:
    """Pack every plain linear layer of `model`; returns how many. Other kinds (quantized, say) stay as they are."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]  # it has no types
        return 0
    elsewhere = [
        weight for module in model.modules() if isinstance(module, nn.Embedding) for weight in module.parameters()
    ]
    shared = {weight.data_ptr() for weight in elsewhere}
    kind: Any = TransposedLinear if _stays_cached(model) else PackedLinear
    count = 0
    for module in list(model.modules()):
        for names, contiguous in _TOGETHER.items():
            count += _pack_together(module, names, kind, contiguous=contiguous)
        for name, child in module.named_children():
            if linear := _plain(child):
                twice = linear.weight.data_ptr() in shared
                if twice and linear.weight.nbytes > _SHARED_BYTES:
                    continue
                gelu = name == _ACTIVATED[0] and isinstance(getattr(module, _ACTIVATED[1], None), GELUActivation)
                if gelu:
                    packed: Any = PackedLinear(linear.weight, linear.bias, shared=twice, gelu=True)
                    setattr(module, _ACTIVATED[1], nn.Identity())
                else:
                    packed = kind(linear.weight, linear.bias, shared=twice)
                setattr(module, name, packed.requires_grad_(False).eval())
                count += 1
    # What is left is a part of the checkpoint's mapped file, all of which stays in memory as long as any part is used.
    for left in model.parameters():
        if type(left) is nn.Parameter:
            left.data = left.data.clone()
    return count


def places(model: nn.Module) -> list[tuple[int, int]]:
    """Address and bytes of every packed weight."""
    return [one.place for one in model.modules() if isinstance(one, KINDS)]


def _stays_cached(model: nn.Module) -> bool:
    """Whether this CPU's products read all of the model's weights faster as they lie in a `TransposedLinear`."""
    weights = [layer.weight for module in model.modules() if (layer := _plain(module)) is not None]
    exact = all(weight.dtype == torch.float32 for weight in weights)
    return exact and is_intels() and sum(weight.nbytes for weight in weights) <= _CACHED_BYTES


def _plain(layer: Any) -> nn.Linear | None:
    """The layer, if it is a plain linear one."""
    plain = type(layer) is nn.Linear and layer.weight.dtype in (torch.float32, torch.bfloat16)
    return layer if plain else None


def _pack_together(module: nn.Module, names: tuple[str, ...], kind: Any, *, contiguous: bool) -> int:
    linears = [linear for name in names if (linear := _plain(getattr(module, name, None))) is not None]
    kinds = {(linear.in_features, linear.bias is None, linear.weight.dtype) for linear in linears}
    if len(linears) < len(names) or len(kinds) > 1:
        return 0
    together = Together(linears, kind, contiguous=contiguous)
    for index, (name, linear) in enumerate(zip(names, linears, strict=True)):
        setattr(module, name, Member(together, index, linear).eval())
    return len(linears)
