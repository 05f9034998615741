"""Continuous batching: sequences join and leave the running batch at every step.

One step is one pass over the newest token of every running sequence and a bounded amount of prompt, then one batch of
embedding inputs; so a long prompt delays the running answers by one chunk, not by its whole length. A sequence is
admitted, in the order of arrival, when there is memory for all it may become; it then never has to step back.
"""

from __future__ import annotations

import copy
import time
from collections import deque

import structlog
import torch

from ..protocol import Embed, Generate, Stats, Step
from .arena import Arena
from .attention import Part
from .grammar import GrammarFactory
from .kv import KVMemory
from .parts import PromptChunk
from .prefix import PrefixMemory, Stored, common_length
from .runner import Runner
from .sampling import logprobs_of, next_tokens
from .scores import logprobs_of_prompt
from .sequence import Running, Sequence

log = structlog.get_logger(__name__)

# Of prompts. A GPU needs the more to be busy, a CPU only more memory for them.
_TOKENS_PER_STEP = {"cpu": 256, "cuda": 512}
_EMBEDDING_TOKENS_PER_STEP = 4096
# Of a prompt whose tokens' log probabilities are wanted: the logits of all of them are there at once.
_SCORED_TOKENS_PER_STEP = 64
# So many tokens can make the first character that a client sees; if it is the only client, it waits for none of them.
_TOKENS_PER_CHARACTER = 4
# A prompt waits for another one being read if they begin alike for that many tokens: a copy is then cheaper.
_WORTH_WAITING = 64


class EmbedJob:
    """Inputs of one request, embedded shortest first. `boundaries`: where the second text of a pair begins in each."""

    def __init__(self, request: Embed) -> None:
        self.id = request.id
        self.inputs = request.inputs
        self.boundaries = request.boundaries or [len(one) for one in request.inputs]
        self.order = deque(sorted(range(len(request.inputs)), key=lambda index: len(request.inputs[index])))
        self.vectors: dict[int, torch.Tensor] = {}


class Scheduler:
    """`waiting` sequences have no memory yet, `reading` ones a part of their prompt in it, `running` ones all of it."""

    def __init__(self, runner: Runner, grammars: GrammarFactory | None = None) -> None:
        self._runner = runner
        self._grammars = grammars
        self._unfit: list[tuple[int, str]] = []
        self.arena = Arena(runner.plan.tokens)
        self._prefixes = PrefixMemory(self.arena, lambda *words: self._memory.copy(*words))
        self.waiting: deque[Sequence] = deque()
        self.reading: list[Sequence] = []
        self.running = Running()
        self.embedding: deque[EmbedJob] = deque()
        self._stats = Stats(kv_tokens=self.arena.tokens)

    @property
    def _memory(self) -> KVMemory:
        assert self._runner.kv is not None, "the model generates"
        return self._runner.kv

    @property
    def idle(self) -> bool:
        return not (self.waiting or self.reading or self.running or self.embedding or self._unfit)

    def add(self, request: Generate | Embed) -> None:
        if isinstance(request, Embed):
            self.embedding.append(EmbedJob(request))
            return
        text = request.sampling.grammar
        try:
            grammar = None if text is None or self._grammars is None else self._grammars(text)
            self.waiting.append(Sequence(request, self._runner.stops, grammar))
        except ValueError as error:
            self._unfit.append((request.id, str(error)))

    def cancel(self, job_id: int) -> None:
        """Drop a sequence or job wherever it is; unknown ids have ended already."""
        for sequence in [*self.reading, *self.running.sequences]:
            if sequence.id == job_id:
                return self._leave(sequence)
        self.waiting = deque(one for one in self.waiting if one.id != job_id)
        self.embedding = deque(one for one in self.embedding if one.id != job_id)

    def step(self) -> Step:
        """One pass of each kind that is due. Raises what the device raises; the engine is then replaced."""
        outcome = Step(unfit=self._unfit)
        self._unfit = []
        while self.waiting and self._admit(self.waiting[0], outcome):
            self.reading.append(self.waiting.popleft())
        if self.running or self.reading:
            self._generate(outcome)
        if self.embedding:
            self._embed(outcome)
        encoding = sum(bool(job.vectors) for job in self.embedding)
        self._stats.running = len(self.running) + len(self.reading) + encoding
        self._stats.waiting = len(self.waiting) + len(self.embedding) - encoding
        # What only waits for a prompt that begins like it gives way to every other.
        self._stats.kv_used = self.arena.used - self._prefixes.ended_tokens
        outcome.stats = copy.copy(self._stats)
        outcome.pressing.update(job for job, *_ in outcome.vectors)
        outcome.pressing.update(job for job, _ in (*outcome.failures, *outcome.unfit))
        outcome.ended = time.monotonic()
        return outcome

    def _admit(self, sequence: Sequence, outcome: Step) -> bool:
        """Give a sequence its memory, with what is stored of its prompt already; false if it has to wait."""
        if len(self.running) + len(self.reading) >= self._runner.plan.sequences:
            return False
        tokens = sequence.tokens
        # What is stored has no log probabilities: such a prompt is read whole.
        scored = sequence.prompt_logprobs is not None
        like, common = (None, 0) if scored else self._prefixes.longest(sequence.adapter, tokens)
        if not scored and any(self._worth_waiting_for(other, sequence, common) for other in self.reading):
            return False
        if like is not None and common == len(like.tokens) and like.block.size >= sequence.limit:
            # The continuation of a conversation: it takes the states themselves, if nobody else is at them.
            sequence.block = self._prefixes.take_over(like)
        if sequence.block is None:
            sequence.block = self._prefixes.allocate(sequence.limit, keep=like)
            if sequence.block is None and self._alone:
                like, common = None, 0
                sequence.block = self._prefixes.allocate(sequence.limit, keep=None)
            if sequence.block is None:
                return False
            if like is not None:
                self._memory.copy(like.block, sequence.place, common)
        sequence.length = common
        self._stats.prefix_queries += len(tokens)
        self._stats.prefix_hits += common
        outcome.admitted.append((sequence.id, common))
        return True

    @property
    def _alone(self) -> bool:
        return not (self.running or self.reading)

    @staticmethod
    def _worth_waiting_for(other: Sequence, sequence: Sequence, common: int) -> bool:
        """Whether `other`, whose prompt is being read, will spare `sequence` much more than the `common` tokens."""
        if other.adapter != sequence.adapter:
            return False
        return common_length(other.tokens, sequence.tokens[:-1]) >= common + _WORTH_WAITING

    def _generate(self, outcome: Step) -> None:
        chunks = self._chunks()
        batch, logits = self._pass(chunks, outcome)
        if not batch:
            return
        samplers = [one.sampler for one in batch]
        tokens = next_tokens(logits, samplers)
        logprobs = logprobs_of(logits, tokens, samplers)
        pressing = _TOKENS_PER_CHARACTER if len(batch) == 1 else 1
        for row, sequence in enumerate(batch):
            token = tokens[row]
            if token is None:
                self._memory.clear(sequence.place)
                problem = samplers[row].grammar_problem
                if problem is not None:
                    outcome.unfit.append((sequence.id, problem))
                else:
                    outcome.failures.append((sequence.id, "The model produced values that are not numbers."))
                self._leave(sequence, usable=False)
                continue
            finish = sequence.take(token)
            outcome.tokens.append((sequence.id, token, finish, logprobs.get(row)))
            if finish is not None or sequence.length < sequence.prompt_length + pressing:
                outcome.pressing.add(sequence.id)
            if finish is not None:
                self._leave(sequence)

    def _chunks(self) -> list[tuple[Sequence, int]]:
        """How much of which prompt this step reads, oldest first."""
        most = _TOKENS_PER_STEP[self._runner.device.type]
        budget = max(most - len(self.running), most // 4)
        chunks = []
        for sequence in self.reading:
            count = min(sequence.prompt_length - sequence.length, budget)
            if sequence.prompt_logprobs is not None:
                count = min(count, _SCORED_TOKENS_PER_STEP)
            if count == 0:
                break
            chunks.append((sequence, count))
            budget -= count
        return chunks

    def _pass(self, chunks: list[tuple[Sequence, int]], outcome: Step) -> tuple[list[Sequence], torch.Tensor]:
        """One forward pass; the sequences that get a token by it, and their logits.

        Without memory for the prompts the pass is tried again without them, and they fail.
        """
        running = list(self.running.sequences)
        parts: list[Part] = self.running.parts()
        tokens = [one.tokens[-1] for one in running]
        positions = [one.length for one in running]
        blocks = [one.place for one in running]
        keep = list(range(len(running)))
        batch = list(running)
        scored: list[tuple[Sequence, int, list[int]]] = []
        for sequence, count in chunks:
            begin, start = sequence.length, len(tokens)
            parts.append(PromptChunk(start, start + count, sequence.place, begin))
            tokens += sequence.tokens[begin : begin + count]
            positions += range(begin, begin + count)
            blocks += [sequence.place] * count
            if begin + count == sequence.prompt_length:
                keep.append(len(tokens) - 1)
                batch.append(sequence)
            if sequence.prompt_logprobs is not None:
                scored.append((sequence, start, sequence.tokens[begin + 1 : begin + count + 1]))
        for _, start, following in scored:
            keep += range(start, start + len(following))
        try:
            adapters = _adapters(running, chunks)
            logits = self._runner.forward(tokens, positions, blocks, parts, keep if chunks else None, adapters)
        except torch.OutOfMemoryError as error:
            if not chunks:
                raise
            log.error("no memory for prompts", tokens=len(tokens), error=str(error))
            for sequence, _ in chunks:
                outcome.failures.append((sequence.id, "The device has no memory left for this prompt."))
                self._leave(sequence, usable=False)
            return self._pass([], outcome) if running else ([], torch.empty(0))
        row = len(batch)
        for sequence, _, following in scored:
            found = logprobs_of_prompt(logits[row : row + len(following)], following, sequence.prompt_logprobs or 0)
            outcome.prompts.append((sequence.id, found))
            row += len(following)
        for sequence in running:
            sequence.length += 1
        for sequence, count in chunks:
            sequence.length += count
            if sequence.length == sequence.prompt_length:
                self.reading.remove(sequence)
                self.running.add(sequence)
                sequence.shared = self._prefixes.share(sequence.adapter, list(sequence.tokens), sequence.place)
        return batch, logits[: len(batch)]

    def _leave(self, sequence: Sequence, *, usable: bool = True) -> None:
        """Take an admitted sequence out; what it has in memory may serve others, if it is `usable`."""
        if sequence in self.reading:
            self.reading.remove(sequence)
        else:
            self.running.remove(sequence)
        if usable:
            ended = Stored(sequence.adapter, sequence.tokens[: sequence.length], sequence.place)
            self._prefixes.end(sequence.shared, ended)
        else:
            self._prefixes.drop(sequence.shared, sequence.place)

    def _embed(self, outcome: Step) -> None:
        """One batch: inputs of the oldest job, then of those behind it, as long as there is room."""
        batch: list[tuple[EmbedJob, int]] = []
        longest = 0
        for job in self.embedding:
            while job.order:
                length = max(longest, len(job.inputs[job.order[0]]))
                if batch and length * (len(batch) + 1) > _EMBEDDING_TOKENS_PER_STEP:
                    break
                longest = length
                batch.append((job, job.order.popleft()))
        batch.sort(key=lambda one: len(one[0].inputs[one[1]]))
        inputs = [job.inputs[index] for job, index in batch]
        try:
            vectors = self._runner.embed(inputs, [job.boundaries[index] for job, index in batch])
        except torch.OutOfMemoryError as error:
            log.error("no memory for texts", texts=len(inputs), error=str(error))
            for job in {job.id: job for job, _ in batch}.values():
                self.embedding.remove(job)
                outcome.failures.append((job.id, "The device has no memory left for these texts."))
            return
        for (job, index), vector in zip(batch, vectors, strict=True):
            job.vectors[index] = vector
        for job in [one for one in self.embedding if not one.order]:
            self.embedding.remove(job)
            rows = torch.stack([job.vectors[index] for index in range(len(job.inputs))])
            outcome.vectors.append((job.id, rows.shape[1], rows.numpy().astype("<f4").tobytes()))


def _adapters(running: list[Sequence], chunks: list[tuple[Sequence, int]]) -> dict[str, list[int]]:
    """The tokens of a pass that are read with an adapter, by its name."""
    found: dict[str, list[int]] = {}
    start = 0
    for sequence, count in [*((one, 1) for one in running), *chunks]:
        if sequence.adapter is not None:
            found.setdefault(sequence.adapter, []).extend(range(start, start + count))
        start += count
    return found
