"""The next token of each row from its logits: greedy, or drawn with the row's own settings and numbers."""

from __future__ import annotations

import math
import random

import torch

from ..protocol import Logprobs, Sampling
from .adjustments import Adjustments, adjusted
from .grammar import GrammarState

# Enough for nearly every top_p: the rest of the vocabulary is only looked at when it is not.
_SHORT_LIST = 256


class Sampler:
    """One sequence's settings and random numbers: one number per token, so batches do not mix streams.

    `ends` are the ids that end an answer, which min_tokens keeps away; `take` must be told of every token picked.
    """

    def __init__(
        self,
        sampling: Sampling,
        prompt: list[int] | None = None,
        ends: frozenset[int] = frozenset(),
        grammar: GrammarState | None = None,
    ) -> None:
        self.settings = sampling
        self.random = random.Random(sampling.seed)
        self.adjustments = Adjustments.wanted(sampling, prompt or [], ends, grammar)

    @property
    def cuts(self) -> bool:
        return self.settings.top_k > 0 or self.settings.top_p < 1.0 or self.settings.min_p > 0.0

    @property
    def grammar_problem(self) -> str | None:
        """Why no token may follow by the grammar, if that is so."""
        grammar = None if self.adjustments is None else self.adjustments.grammar
        return None if grammar is None else grammar.problem

    def take(self, token: int) -> None:
        if self.adjustments is not None:
            self.adjustments.take(token)


def next_tokens(logits: torch.Tensor, samplers: list[Sampler]) -> list[int | None]:
    """Token ids for `logits` [rows, vocabulary]; None for a row whose logits are not numbers."""
    logits = adjusted(logits.float(), [sampler.adjustments for sampler in samplers])
    drawn = [row for row, sampler in enumerate(samplers) if sampler.settings.temperature > 0]
    if logits.is_cpu and not drawn:
        # A small model's token comes sooner without PyTorch's operators.
        numbers = logits.numpy()
        places: list[int] = numbers.argmax(axis=-1).tolist()
        return [place if math.isfinite(numbers[row, place]) else None for row, place in enumerate(places)]
    best, chosen = _best(logits)
    for cuts, draw in ((False, _draw), (True, _draw_cut)):
        rows = [row for row in drawn if samplers[row].cuts is cuts]
        if rows:
            settings = [samplers[row].settings for row in rows]
            uniform = _column([samplers[row].random.random() for row in rows], logits, torch.float64)
            temperature = _column([one.temperature for one in settings], logits)
            # With the best at 0 no temperature overflows.
            chosen[rows] = draw((logits[rows] - best[rows, None]) / temperature, settings, uniform)
    # One transfer for both: on a GPU each waits for the device. Finite is what leaves nothing without itself.
    tokens: list[int] = torch.where(best - best == 0, chosen, -1).tolist()
    return [None if token < 0 else token for token in tokens]


def _best(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The largest logit of each row, not a number if one of them is not, and the first index that has it."""
    if not logits.is_cpu:
        return logits.max(dim=-1)
    # On a CPU NumPy is several times faster at that, and takes the first that is not a number for the largest, too.
    chosen = torch.from_numpy(logits.numpy().argmax(axis=-1))
    return logits.gather(1, chosen[:, None])[:, 0], chosen


def logprobs_of(logits: torch.Tensor, tokens: list[int | None], samplers: list[Sampler]) -> dict[int, Logprobs]:
    """For the rows that ask: what the model gave its token and the best others, before any setting changed that."""
    rows = [row for row, one in enumerate(samplers) if one.settings.logprobs is not None and tokens[row] is not None]
    if not rows:
        return {}
    logprobs = logits[rows].float().log_softmax(dim=-1)
    own = logprobs.gather(1, torch.tensor([[tokens[row]] for row in rows], device=logits.device))[:, 0].tolist()
    counts = [samplers[row].settings.logprobs or 0 for row in rows]
    best, ids = logprobs.topk(min(max(counts), logits.shape[-1]), dim=-1)
    others = [list(zip(*pair, strict=True)) for pair in zip(ids.tolist(), best.tolist(), strict=True)]
    return {row: (own[index], others[index][: counts[index]]) for index, row in enumerate(rows)}


def _draw(scaled: torch.Tensor, _settings: list[Sampling], uniform: torch.Tensor) -> torch.Tensor:
    return _at_random(scaled.softmax(dim=-1), uniform)


def _draw_cut(
    scaled: torch.Tensor, settings: list[Sampling], uniform: torch.Tensor, width: int = _SHORT_LIST
) -> torch.Tensor:
    """Among the top_k best, those that make up top_p and have min_p of the best's probability.

    top_p counts what top_k left, as in Transformers.

    Looks at the `width` best only, and again at more for the rows that need it: sorting a whole vocabulary for every
    token would take longer than a small model's pass.
    """
    vocabulary = scaled.shape[-1]
    width = min(width, vocabulary)
    ordered, tokens = scaled.topk(width, dim=-1)
    top_k = _column([min(one.top_k or vocabulary, vocabulary) for one in settings], scaled, torch.long)
    top_p = _column([one.top_p for one in settings], scaled)
    min_p = _column([one.min_p for one in settings], scaled)
    rank = torch.arange(width, device=scaled.device)
    weights = ordered.exp().masked_fill(rank >= top_k, 0.0)
    total = torch.where(top_k < vocabulary, weights.sum(-1, keepdim=True), scaled.exp().sum(-1, keepdim=True))
    summed = weights.cumsum(dim=-1)
    # The best one's weight is 1.
    kept = weights.masked_fill(((summed - weights >= top_p * total) & (rank > 0)) | (weights < min_p), 0.0)
    chosen = tokens.gather(1, _at_random(kept, uniform)[:, None])[:, 0]
    # Those beyond may be chosen, too, or count for top_p.
    beyond = torch.where(top_k < vocabulary, top_p < 1, False) | (weights[:, -1:] >= min_p)
    short = (top_k > width) & beyond & ((top_k < vocabulary) | (summed[:, -1:] < top_p * total))
    for row in short[:, 0].nonzero()[:, 0].tolist() if width < vocabulary else ():
        one = slice(row, row + 1)
        chosen[one] = _draw_cut(scaled[one], settings[one], uniform[one], 16 * width)
    return chosen


def _at_random(weights: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    """Index per row, by inverting the cumulative weights at the row's uniform number."""
    cumulative = weights.cumsum(dim=-1, dtype=torch.float64)
    index = torch.searchsorted(cumulative, uniform * cumulative[:, -1:], right=True)
    return index[:, 0].clamp_(max=weights.shape[-1] - 1)


def _column(values: list[float], like: torch.Tensor, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.tensor(values, dtype=dtype, device=like.device)[:, None]
