"""Linear layers on a CPU in the layout its fastest matrix kernels want, which PyTorch's own linear does not use."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

# The number of rows the layout is chosen for; measured best over 1 to 512 (bench/results).
_ROWS = 16
# A weight that the embedding shares would be there twice: up to this size that is worth it.
_SHARED_BYTES = 2**28


class PackedLinear(nn.Module):
    """A linear layer with its weight in oneDNN's layout; the plain one is kept only where an embedding has it anyway."""

    def __init__(self, linear: nn.Linear, *, shared: bool) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self._packed = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach().contiguous(), _ROWS)
        self.bias = linear.bias
        self.weight = linear.weight if shared else None

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = torch.ops.mkldnn._linear_pointwise(inputs, self._packed, self.bias, "none", [], "")
        return result


def pack(model: nn.Module) -> int:
    """Pack every plain linear layer of `model`; returns how many. Other kinds (quantized, say) stay as they are."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return 0
    elsewhere = [
        weight for module in model.modules() if isinstance(module, nn.Embedding) for weight in module.parameters()
    ]
    shared = {weight.data_ptr() for weight in elsewhere}
    count = 0
    for module in list(model.modules()):
        for name, child in module.named_children():
            if type(child) is nn.Linear and child.weight.dtype in (torch.float32, torch.bfloat16):
                twice = child.weight.data_ptr() in shared
                if twice and child.weight.nbytes > _SHARED_BYTES:
                    continue
                packed: Any = PackedLinear(child, shared=twice)
                setattr(module, name, packed.requires_grad_(False).eval())
                count += 1
    return count
