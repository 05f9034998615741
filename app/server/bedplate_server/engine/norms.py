"""RMS norms in bfloat16 by PyTorch's one kernel for layer norms: the models' own code is nine operators."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class RootMeanSquareNorm(nn.Module):
    """`inputs` [..., size] over their root mean square, times `weight` [size], rounded once.

    A layer norm of inputs and negative inputs side by side is that: their mean is 0, their variance the mean square.
    """

    def __init__(self, weight: torch.Tensor, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.cat([weight, weight]), requires_grad=False)
        self._size, self._epsilon = len(weight), epsilon

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        both = torch.cat([inputs, -inputs], dim=-1)
        normed = torch.layer_norm(both, [2 * self._size], self.weight, None, self._epsilon)
        return normed[..., : self._size]


@torch.inference_mode()
def simplify_norms(model: nn.Module) -> int:
    """Replace the RMS norms of a bfloat16 `model` that compute this; returns how many."""
    count = 0
    for module in list(model.modules()):
        for name, child in module.named_children():
            if (simple := _simple(child)) is not None:
                setattr(module, name, simple.eval())
                count += 1
    return count


def _simple(norm: Any) -> RootMeanSquareNorm | None:
    """What computes the same as `norm`; None if that is not known of it."""
    epsilon = getattr(norm, "variance_epsilon", getattr(norm, "eps", None))
    weight = getattr(norm, "weight", None)
    if not type(norm).__name__.endswith("RMSNorm") or not isinstance(epsilon, float) or len(norm._parameters) != 1:
        return None
    if not isinstance(weight, torch.Tensor) or weight.dim() != 1 or weight.dtype != torch.bfloat16:
        return None
    # Some models store what their weights are more than 1. Inputs around the epsilon show where it is added.
    inputs = torch.randn(4, len(weight), generator=torch.Generator().manual_seed(0)).bfloat16()
    inputs *= torch.tensor([[1.0], [30.0], [epsilon**0.5], [0.0]]).bfloat16()
    wanted = norm(inputs)
    for whole in (weight, 1 + weight.float()):
        made = RootMeanSquareNorm(whole, epsilon)
        found = made(inputs)
        # Three roundings at most apart.
        if found.dtype == wanted.dtype and torch.allclose(found, wanted, rtol=3 / 256, atol=1e-6):
            return made
    return None
