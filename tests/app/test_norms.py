"""RMS norms in bfloat16 are replaced by what computes them, and by nothing else."""

from __future__ import annotations

import pytest
import torch
from bedplate_server.engine.norms import RootMeanSquareNorm, simplify_norms
from torch import nn
from transformers.models.gemma3.modeling_gemma3 import Gemma3RMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.qwen3.modeling_qwen3 import Qwen3RMSNorm


class PartialRMSNorm(LlamaRMSNorm):
    """Of another kind, whatever its name says."""

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        half = hidden_states.shape[-1] // 2
        return torch.cat([super().forward(hidden_states)[..., :half], hidden_states[..., half:]], dim=-1)


def model_of(norm: nn.Module, dtype: torch.dtype) -> nn.Sequential:
    torch.manual_seed(5)
    model = nn.Sequential(norm).requires_grad_(False)
    for weight in model.parameters():
        weight.copy_(torch.randn(weight.shape))
    return model.to(dtype)


@pytest.mark.parametrize("kind", [LlamaRMSNorm, Qwen3RMSNorm, Gemma3RMSNorm])
@pytest.mark.parametrize("shape", [(1, 1, 96), (1, 17, 96), (1, 5, 3, 96)])
def test_a_norm_is_as_exact_as_the_models_own(kind: type[nn.Module], shape: tuple[int, ...]) -> None:
    model = model_of(kind(96), torch.bfloat16)
    exact = model_of(kind(96), torch.float32)
    exact.load_state_dict({name: weight.float() for name, weight in model.state_dict().items()})
    inputs = (torch.randn(shape) * 7).bfloat16()
    wanted, own = exact(inputs.float()), model(inputs)
    assert simplify_norms(model) == 1
    assert isinstance(model[0], RootMeanSquareNorm)
    found = model(inputs)
    assert found.dtype == torch.bfloat16
    off = (found - wanted).abs().mean()
    assert off <= 1.1 * (own - wanted).abs().mean()
    assert off < wanted.abs().mean() / 256


@pytest.mark.parametrize(
    ("norm", "dtype"),
    [
        (LlamaRMSNorm(96), torch.float32),
        (PartialRMSNorm(96), torch.bfloat16),
        (nn.LayerNorm(96), torch.bfloat16),
        (nn.RMSNorm(96), torch.bfloat16),
    ],
    ids=["float32", "other", "layer norm", "no epsilon"],
)
def test_what_computes_something_else_stays(norm: nn.Module, dtype: torch.dtype) -> None:
    model = model_of(norm, dtype)
    assert simplify_norms(model) == 0
    assert model[0] is norm
