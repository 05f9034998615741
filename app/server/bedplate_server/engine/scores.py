"""How likely the model found the tokens of a prompt."""

from __future__ import annotations

import torch

from ..protocol import Logprobs


def logprobs_of_prompt(logits: torch.Tensor, tokens: list[int], alternatives: int) -> list[Logprobs]:
    """Of `tokens`, each from the logits [tokens, vocabulary] at the one before it, with the likeliest `alternatives`."""
    if not tokens:
        return []
    logprobs = logits.float().log_softmax(dim=-1)
    own = logprobs.gather(1, torch.tensor(tokens, device=logits.device)[:, None])[:, 0].tolist()
    best, ids = logprobs.topk(min(alternatives, logits.shape[-1]), dim=-1)
    others = [list(zip(*pair, strict=True)) for pair in zip(ids.tolist(), best.tolist(), strict=True)]
    return list(zip(own, others, strict=True))
