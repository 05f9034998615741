"""A generation in progress, and those that run together."""

from __future__ import annotations

import bisect

from ..protocol import Generate
from .arena import Block
from .attention import Part
from .grammar import GrammarState
from .parts import Span, spans
from .prefix import Stored
from .sampling import Sampler


class Sequence:
    """One generation. The states of the first `length` of its `tokens` (prompt and answer) are in its block."""

    def __init__(self, request: Generate, stops: frozenset[int], grammar: GrammarState | None) -> None:
        self.id = request.id
        self.tokens = list(request.prompt)
        self.prompt_length = len(request.prompt)
        self.limit = len(request.prompt) + request.max_tokens
        self.adapter = request.adapter
        sampling = request.sampling
        self.ends = (frozenset() if sampling.ignore_eos else stops) | frozenset(sampling.stop_token_ids)
        # How many alternatives beside each token of the prompt; None: its log probabilities are not asked for.
        self.prompt_logprobs = sampling.prompt_logprobs
        self.sampler = Sampler(sampling, request.prompt, self.ends, grammar)
        self.block: Block | None = None
        self.shared: Stored | None = None
        self.length = 0

    @property
    def place(self) -> Block:
        assert self.block is not None, "it has been admitted"
        return self.block

    def take(self, token: int) -> str | None:
        """Append the next token; the reason if it was the last."""
        self.tokens.append(token)
        self.sampler.take(token)
        if token in self.ends:
            return "stop"
        return "length" if len(self.tokens) == self.limit else None


class Running:
    """The sequences that get a token in every pass, in the order of their blocks, so that they attend together."""

    def __init__(self) -> None:
        self.sequences: list[Sequence] = []
        self._spans: list[Span] | None = None

    def __len__(self) -> int:
        return len(self.sequences)

    def add(self, sequence: Sequence) -> None:
        bisect.insort(self.sequences, sequence, key=_place)
        self._spans = None

    def remove(self, sequence: Sequence) -> None:
        self.sequences.remove(sequence)
        self._spans = None

    def parts(self) -> list[Part]:
        """Their newest tokens, not stored yet, as the first parts of a pass."""
        if self._spans is None:
            self._spans = spans([one.place for one in self.sequences])
        return [span.at([one.length + 1 for one in self.sequences[span.start : span.stop]]) for span in self._spans]


def _place(sequence: Sequence) -> tuple[int, int]:
    return sequence.place.size, sequence.place.start
