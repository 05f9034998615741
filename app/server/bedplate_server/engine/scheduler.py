"""Continuous batching: sequences join and leave the running batch at every step.

One step is one decode pass over all running sequences, then a bounded amount of prefill for the next ones,
then one batch of embedding inputs; so a long prompt delays the running answers by one chunk, not by its whole
length.
"""

from __future__ import annotations

from collections import deque

import structlog
import torch

from ..protocol import Embed, Generate, Logprobs, Step
from .grammar import GrammarFactory
from .runner import Runner
from .sampling import Sampler, logprobs_of, next_tokens

log = structlog.get_logger(__name__)

_PREFILL_TOKENS_PER_STEP = 512
_EMBEDDING_TOKENS_PER_STEP = 4096


class Sequence:
    """A generation in progress. `length` tokens of it are in its row of keys and values."""

    def __init__(self, request: Generate, stops: frozenset[int], grammars: GrammarFactory | None) -> None:
        self.id = request.id
        self.prompt = request.prompt
        self.left = request.max_tokens
        sampling = request.sampling
        self.ends = (frozenset() if sampling.ignore_eos else stops) | frozenset(sampling.stop_token_ids)
        grammar = None if sampling.grammar is None or grammars is None else grammars(sampling.grammar)
        self.sampler = Sampler(sampling, request.prompt, self.ends, grammar)
        self.length = 0
        self.last = -1


class EmbedJob:
    """Inputs of one request, embedded shortest first so that a batch holds little padding."""

    def __init__(self, request: Embed) -> None:
        self.id = request.id
        self.inputs = request.inputs
        self.boundaries = request.boundaries
        self.order = deque(sorted(range(len(request.inputs)), key=lambda index: len(request.inputs[index])))
        self.vectors: dict[int, torch.Tensor] = {}


class Scheduler:
    """Row i of the keys and values belongs to running[i], the row behind them to `arriving`, if any."""

    def __init__(self, runner: Runner, grammars: GrammarFactory | None = None) -> None:
        self._runner = runner
        self._grammars = grammars
        self._unfit: list[tuple[int, str]] = []
        self.waiting: deque[Sequence] = deque()
        self.arriving: Sequence | None = None
        self.running: list[Sequence] = []
        self.embedding: deque[EmbedJob] = deque()

    @property
    def idle(self) -> bool:
        return not (self.waiting or self.arriving or self.running or self.embedding or self._unfit)

    def add(self, request: Generate | Embed) -> None:
        if isinstance(request, Generate):
            try:
                self.waiting.append(Sequence(request, self._runner.stops, self._grammars))
            except ValueError as error:
                self._unfit.append((request.id, f"The grammar cannot be followed: {error}"))
        else:
            self.embedding.append(EmbedJob(request))

    def cancel(self, job_id: int) -> None:
        """Drop a sequence or job wherever it is; unknown ids have ended already."""
        if self.arriving is not None and self.arriving.id == job_id:
            self.arriving = None
        for row, sequence in enumerate(self.running):
            if sequence.id == job_id:
                return self._leave(row)
        self.waiting = deque(one for one in self.waiting if one.id != job_id)
        self.embedding = deque(one for one in self.embedding if one.id != job_id)

    def step(self) -> Step:
        """One pass of each kind that is due. Raises what the device raises; the engine is then replaced."""
        outcome = Step(failures=self._unfit)
        self._unfit = []
        if self.running:
            self._decode(outcome)
        self._prefill(outcome)
        if self.embedding:
            self._embed(outcome)
        return outcome

    def _decode(self, outcome: Step) -> None:
        batch = self.running
        logits = self._runner.decode([one.last for one in batch], [one.length for one in batch])
        samplers = [one.sampler for one in batch]
        tokens = next_tokens(logits, samplers)
        logprobs = logprobs_of(logits, tokens, samplers)
        # From the last row on, so that a row that leaves is filled from rows already dealt with.
        for row in range(len(batch) - 1, -1, -1):
            batch[row].length += 1
            if self._advance(batch[row], row, tokens[row], logprobs.get(row), outcome):
                self._leave(row)

    def _prefill(self, outcome: Step) -> None:
        """Read prompts chunk by chunk, oldest first, while rows are free and the step's budget lasts."""
        budget = _PREFILL_TOKENS_PER_STEP
        while budget > 0 and (self.arriving or (self.waiting and len(self.running) < self._runner.plan.slots)):
            sequence = self.arriving = self.arriving or self.waiting.popleft()
            chunk = sequence.prompt[sequence.length : sequence.length + budget]
            try:
                logits = self._runner.prefill(len(self.running), chunk, sequence.length)
            except torch.OutOfMemoryError as error:
                log.error("no memory for a prompt", tokens=len(sequence.prompt), error=str(error))
                outcome.failures.append((sequence.id, "The device has no memory left for this prompt."))
                self.arriving = None
                continue
            budget -= len(chunk)
            sequence.length += len(chunk)
            if sequence.length == len(sequence.prompt):
                self.arriving = None
                (token,) = next_tokens(logits, [sequence.sampler])
                logprobs = logprobs_of(logits, [token], [sequence.sampler]).get(0)
                if not self._advance(sequence, len(self.running), token, logprobs, outcome):
                    self.running.append(sequence)

    def _advance(
        self, sequence: Sequence, row: int, token: int | None, logprobs: Logprobs | None, outcome: Step
    ) -> bool:
        """Book the next token of the sequence in `row`; true when it was the last."""
        if token is None:
            self._runner.clear(row)
            outcome.failures.append((sequence.id, "The model produced values that are not numbers."))
            return True
        sequence.last = token
        sequence.left -= 1
        sequence.sampler.take(token)
        finish = "stop" if token in sequence.ends else "length" if sequence.left == 0 else None
        outcome.tokens.append((sequence.id, token, finish, logprobs))
        return finish is not None

    def _leave(self, row: int) -> None:
        """Take a running sequence out and close the gap: the last row moves in, the arriving one moves up."""
        last = len(self.running) - 1
        if row != last:
            self._runner.move(last, row, self.running[last].length)
            self.running[row] = self.running[last]
        self.running.pop()
        if self.arriving is not None and self.arriving.length:
            self._runner.move(last + 1, last, self.arriving.length)

    def _embed(self, outcome: Step) -> None:
        """One batch of the oldest job."""
        job = self.embedding[0]
        batch = [job.order.popleft()]
        while job.order and len(job.inputs[job.order[0]]) * (len(batch) + 1) <= _EMBEDDING_TOKENS_PER_STEP:
            batch.append(job.order.popleft())
        boundaries = None if job.boundaries is None else [job.boundaries[index] for index in batch]
        vectors = self._runner.embed([job.inputs[index] for index in batch], boundaries)
        job.vectors.update(zip(batch, vectors, strict=True))
        if not job.order:
            self.embedding.popleft()
            rows = torch.stack([job.vectors[index] for index in range(len(job.inputs))])
            outcome.vectors.append((job.id, rows.shape[1], rows.numpy().astype("<f4").tobytes()))
