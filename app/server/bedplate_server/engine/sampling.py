"""The next token of each row from its logits: greedy, or drawn with the row's own settings and numbers."""

from __future__ import annotations

import random

import torch

from ..protocol import Sampling


class Sampler:
    """One sequence's settings and random numbers: one number per token, so batches do not mix streams."""

    def __init__(self, sampling: Sampling) -> None:
        self.settings = sampling
        self.random = random.Random(sampling.seed)

    @property
    def cuts(self) -> bool:
        return self.settings.top_k > 0 or self.settings.top_p < 1.0


def next_tokens(logits: torch.Tensor, samplers: list[Sampler]) -> list[int | None]:
    """Token ids for `logits` [rows, vocabulary]; None for a row whose logits are not numbers."""
    logits = logits.float()
    best, chosen = logits.max(dim=-1)
    drawn = [row for row, sampler in enumerate(samplers) if sampler.settings.temperature > 0]
    for cut in (False, True):
        rows = [row for row in drawn if samplers[row].cuts is cut]
        if rows:
            pick = _draw_cut if cut else _draw
            chosen[rows] = pick(_scaled(logits[rows], best[rows], [samplers[row] for row in rows]), samplers, rows)
    sound = torch.isfinite(best).tolist()
    return [token if ok else None for token, ok in zip(chosen.tolist(), sound, strict=True)]


def _scaled(logits: torch.Tensor, best: torch.Tensor, samplers: list[Sampler]) -> torch.Tensor:
    """Logits over temperature, with the best at 0 so that no temperature overflows."""
    temperatures = torch.tensor([[sampler.settings.temperature] for sampler in samplers], device=logits.device)
    return (logits - best[:, None]) / temperatures


def _draw(scaled: torch.Tensor, samplers: list[Sampler], rows: list[int]) -> torch.Tensor:
    return _at_random(scaled.softmax(dim=-1), samplers, rows)


def _draw_cut(scaled: torch.Tensor, samplers: list[Sampler], rows: list[int]) -> torch.Tensor:
    """Among the top_k best, those that make up top_p; top_p counts what top_k left, as in Transformers."""
    ordered, tokens = scaled.sort(dim=-1, descending=True, stable=True)
    vocabulary = scaled.shape[-1]
    top_k = torch.tensor([[samplers[row].settings.top_k or vocabulary] for row in rows], device=scaled.device)
    top_p = torch.tensor([[samplers[row].settings.top_p] for row in rows], device=scaled.device)
    rank = torch.arange(vocabulary, device=scaled.device)
    probabilities = ordered.masked_fill(rank >= top_k, -torch.inf).softmax(dim=-1)
    better = probabilities.cumsum(dim=-1) - probabilities
    kept = probabilities.masked_fill((better >= top_p) & (rank > 0), 0.0)
    return tokens.gather(1, _at_random(kept, samplers, rows)[:, None])[:, 0]


def _at_random(weights: torch.Tensor, samplers: list[Sampler], rows: list[int]) -> torch.Tensor:
    """Index per row, by inverting the cumulative weights at one uniform number of the row's stream."""
    cumulative = weights.cumsum(dim=-1, dtype=torch.float64)
    uniform = torch.tensor(
        [[samplers[row].random.random()] for row in rows], dtype=torch.float64, device=weights.device
    )
    index = torch.searchsorted(cumulative, uniform * cumulative[:, -1:], right=True)
    return index[:, 0].clamp_(max=weights.shape[-1] - 1)
