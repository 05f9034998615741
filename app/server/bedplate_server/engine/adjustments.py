"""What a request changes in its row's logits before a token is picked: bias, penalties, forbidden tokens, a grammar."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..protocol import Sampling
from .grammar import GrammarState


class Adjustments:
    """One sequence's, with what it must remember of its tokens. Most sequences have none: see `wanted`."""

    def __init__(
        self, sampling: Sampling, prompt: list[int], ends: frozenset[int], grammar: GrammarState | None
    ) -> None:
        self.settings = sampling
        self.grammar = grammar
        self.made = 0
        self.ends = sorted(ends)
        self._prompt = prompt
        self._answer: list[int] = []
        self._seen: torch.Tensor | None = None
        self._counts: torch.Tensor | None = None

    @classmethod
    def wanted(
        cls, sampling: Sampling, prompt: list[int], ends: frozenset[int], grammar: GrammarState | None
    ) -> Adjustments | None:
        """None for a request whose logits stay as they are."""
        asks = (
            grammar is not None
            or sampling.logit_bias
            or (sampling.min_tokens and ends)
            or sampling.repetition_penalty != 1.0
            or sampling.presence_penalty
            or sampling.frequency_penalty
        )
        return cls(sampling, prompt, ends, grammar) if asks else None

    def take(self, token: int) -> None:
        self.made += 1
        self._answer.append(token)
        if self.grammar is not None:
            self.grammar.accept(token)
        if self._seen is not None:
            self._seen[token] = True
        if self._counts is not None:
            self._counts[token] += 1

    def seen(self, like: torch.Tensor) -> torch.Tensor:
        """Which tokens are in the prompt or the answer; [vocabulary], kept up to date from the first call on."""
        if self._seen is None:
            self._seen = torch.zeros(like.shape[-1], dtype=torch.bool, device=like.device)
            self._seen[self._prompt + self._answer] = True
        return self._seen

    def counts(self, like: torch.Tensor) -> torch.Tensor:
        """How often each token is in the answer; [vocabulary]."""
        if self._counts is None:
            answer = torch.tensor(self._answer, dtype=torch.long, device=like.device)
            self._counts = torch.bincount(answer, minlength=like.shape[-1]).float()
        return self._counts


def adjusted(logits: torch.Tensor, rows: Sequence[Adjustments | None]) -> torch.Tensor:
    """`logits` [rows, vocabulary], float32, after each row's adjustments; itself if there are none."""
    asking = [(row, one) for row, one in enumerate(rows) if one is not None]
    if not asking:
        return logits
    logits = logits.clone()
    _penalise_repetition(logits, [pair for pair in asking if pair[1].settings.repetition_penalty != 1.0])
    _penalise_counts(
        logits,
        [pair for pair in asking if pair[1].settings.presence_penalty or pair[1].settings.frequency_penalty],
    )
    for row, one in asking:
        if one.settings.logit_bias:
            tokens, biases = zip(*one.settings.logit_bias, strict=True)
            logits[row, list(tokens)] += torch.tensor(biases, device=logits.device)
        if one.made < one.settings.min_tokens and one.ends:
            logits[row, one.ends] = -torch.inf
    _keep_to_grammars(logits, [(row, one.grammar) for row, one in asking if one.grammar is not None])
    return logits


def _penalise_repetition(logits: torch.Tensor, asking: list[tuple[int, Adjustments]]) -> None:
    """As Transformers' RepetitionPenaltyLogitsProcessor does, with a penalty for each row."""
    if asking:
        rows = [row for row, _ in asking]
        penalty = torch.tensor([[one.settings.repetition_penalty] for _, one in asking], device=logits.device)
        seen = torch.stack([one.seen(logits) for _, one in asking])
        scores = logits[rows]
        logits[rows] = torch.where(seen, torch.where(scores < 0, scores * penalty, scores / penalty), scores)


def _penalise_counts(logits: torch.Tensor, asking: list[tuple[int, Adjustments]]) -> None:
    """OpenAI's formula: both count what has been answered, not what was asked."""
    if asking:
        rows = [row for row, _ in asking]
        weights = [(one.settings.frequency_penalty, one.settings.presence_penalty) for _, one in asking]
        frequency, presence = torch.tensor(weights, device=logits.device)[:, :, None].unbind(dim=1)
        counts = torch.stack([one.counts(logits) for _, one in asking])
        logits[rows] -= frequency * counts + presence * (counts > 0)


def _keep_to_grammars(logits: torch.Tensor, asking: list[tuple[int, GrammarState]]) -> None:
    """Tokens whose bit is not set cannot be picked."""
    if asking:
        vocabulary = logits.shape[-1]
        bitmask = torch.zeros(len(asking), (vocabulary + 31) // 32, dtype=torch.int32)
        for index, (_, grammar) in enumerate(asking):
            grammar.fill(bitmask, index)
        bits = torch.arange(32, dtype=torch.int32)
        allowed = ((bitmask[:, :, None] >> bits) & 1).bool().flatten(1)[:, :vocabulary].to(logits.device)
        rows = [row for row, _ in asking]
        logits[rows] = logits[rows].masked_fill(~allowed, -torch.inf)
