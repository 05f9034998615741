"""Answers that must match a grammar: what the sampling asks before each token, and tells after it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Protocol

import structlog
import torch
from llguidance import LLMatcher, LLTokenizer
from transformers import AutoTokenizer

log = structlog.get_logger(__name__)

# Grammars kept compiled: requests of one application repeat theirs.
_KEPT = 64


class GrammarState(Protocol):
    """Where one sequence stands in its grammar. `problem`: why it cannot go on, if so."""

    problem: str | None

    def fill(self, bitmask: torch.Tensor, row: int) -> None:
        """Set the bits of the tokens that may come next in `bitmask` [rows, vocabulary / 32], int32, on the CPU.

        The ids that end an answer are among them only where the grammar may end.
        """

    def accept(self, token: int) -> None:
        """Move on by the token that was picked."""


# Makes the state of a new sequence from `Sampling.grammar`; raises ValueError for one that cannot be followed.
GrammarFactory = Callable[[str], GrammarState]


class _Matcher:
    """A sequence's own copy of a compiled grammar."""

    def __init__(self, matcher: LLMatcher) -> None:
        self._matcher = matcher
        self.problem: str | None = None

    def fill(self, bitmask: torch.Tensor, row: int) -> None:
        mask = bitmask[row]
        self._matcher.unsafe_compute_mask_ptr(mask.data_ptr(), mask.numel() * mask.element_size())
        if self._matcher.is_error():
            # With no token allowed the sequence fails, alone, rather than ends with an answer that does not match.
            self.problem = self._matcher.get_error()[:500]
            log.error("a grammar cannot go on", error=self.problem)
            mask.zero_()

    def accept(self, token: int) -> None:
        self._matcher.consume_token(token)


class Grammars:
    """The grammars of one model, in llguidance's form (a JSON text). Called from two threads: see `compile`."""

    def __init__(self, model: str, vocabulary: int, ends: frozenset[int]) -> None:
        self._model = model
        self._vocabulary = vocabulary
        self._ends = ends
        self._lock = threading.Lock()
        self._tokenizer: LLTokenizer | None = None
        self._compiled: OrderedDict[str, LLMatcher] = OrderedDict()

    def compile(self, grammar: str) -> LLMatcher:
        """Compile and keep, which can take a second: the engine's reading thread does it before the engine's steps see
        the request. ValueError if it cannot be done.
        """
        with self._lock:
            matcher = self._compiled.get(grammar)
            if matcher is None:
                matcher = LLMatcher(self._words(), grammar, log_level=0)
                if matcher.is_error():
                    raise ValueError(matcher.get_error()[:500])
                self._compiled[grammar] = matcher
                if len(self._compiled) > _KEPT:
                    self._compiled.popitem(last=False)
            self._compiled.move_to_end(grammar)
            return matcher

    def __call__(self, grammar: str) -> GrammarState:
        return _Matcher(self.compile(grammar).deep_copy())

    def _words(self) -> LLTokenizer:
        """The model's vocabulary as llguidance needs it, which takes a second for a large one."""
        if not self._ends:
            raise ValueError("the model has no token that ends an answer")
        if self._tokenizer is None:
            # Through Transformers, which adds the tokens that only tokenizer_config.json names.
            words: Any = AutoTokenizer.from_pretrained(self._model, local_files_only=True, trust_remote_code=False)
            text = words.backend_tokenizer.to_str()
            self._tokenizer = LLTokenizer(text, n_vocab=self._vocabulary, eos_token=sorted(self._ends))
        return self._tokenizer
