"""One request's answer in the making: its choices, their text, and its end when nobody waits any more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from tokenizers import Tokenizer

from ..errors import ApiError
from ..protocol import Logprobs, Sampling
from .detokenize import TextStream
from .logprobs import TokenLogprobs
from .replicas import Replicas

_Event = tuple[int, int, str | None, Logprobs | None] | ApiError


@dataclass(slots=True)
class Piece:
    """New text of one choice; `finish` is set on its last piece. A whole answer is one piece, too.

    `logprobs` has the tokens read since the last piece, if they were asked for; the token that ended it is no text.
    """

    index: int
    text: str = ""
    finish: str | None = None
    logprobs: list[TokenLogprobs] = field(default_factory=list)


class _Choice:
    """One sequence of the request, as the engine's job."""

    def __init__(self, index: int, text: TextStream, events: asyncio.Queue[_Event]) -> None:
        self.index = index
        self.stream = text
        self.job_id = 0
        self.finished = False
        # Of the prompt's tokens: those that were stored, and the log probabilities from the second one on.
        self.cached = 0
        self.prompt_logprobs: list[Logprobs] = []
        self._events = events

    def admitted(self, cached: int) -> None:
        self.cached = cached

    def prompt(self, logprobs: list[Logprobs]) -> None:
        self.prompt_logprobs += logprobs

    def token(self, token: int, finish: str | None, logprobs: Logprobs | None) -> None:
        self._events.put_nowait((self.index, token, finish, logprobs))

    def failed(self, error: ApiError) -> None:
        self._events.put_nowait(error)

    def vectors(self, dimensions: int, data: bytes) -> None:
        raise AssertionError("a generation gets no vectors")


class Generation:
    """`choices` sequences from each prompt, numbered on. `close` must be called, and ends what still runs.

    prompts: each with the most tokens that its answers may have.
    """

    def __init__(
        self,
        engine: Replicas,
        prompts: list[tuple[list[int], int]],
        sampling: Sampling,
        choices: int,
        adapter: str | None,
        text: Callable[[], TextStream],
        on_close: Callable[[], None],
    ) -> None:
        self.prompt_tokens = sum(len(prompt) for prompt, _ in prompts)
        self.completion_tokens = 0
        self._each = choices
        self._engine = engine
        self._on_close = on_close
        self._closed = False
        self._events: asyncio.Queue[_Event] = asyncio.Queue()
        self._choices = [_Choice(index, text(), self._events) for index in range(choices * len(prompts))]
        for choice in self._choices:
            prompt, max_tokens = prompts[choice.index // choices]
            # Every choice has a random stream of its own, the first the same as a request for one choice.
            seed = None if sampling.seed is None else f"{sampling.seed}/{choice.index % choices}"
            choice.job_id = engine.generate(choice, prompt, max_tokens, replace(sampling, seed=seed), adapter)

    @property
    def tokenizer(self) -> Tokenizer:
        return self._choices[0].stream.tokenizer

    @property
    def finished(self) -> bool:
        return all(choice.finished for choice in self._choices)

    @property
    def usage(self) -> dict[str, Any]:
        # A prompt counts once, however many answers it gets, and so does what was stored of it.
        cached = sum(choice.cached for choice in self._choices[:: self._each])
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": cached},
        }

    def prompt_logprobs(self, index: int) -> list[Logprobs]:
        """Of the tokens of a choice's prompt, from the second one on, if they were asked for; there before its text."""
        return self._choices[index].prompt_logprobs

    async def pieces(self, patience: float | None = None) -> list[Piece]:
        """What has come since the last call, at least one event; empty after `patience` seconds of silence.

        Raises the ApiError that ended the generation, once all that came before has been given out.
        """
        try:
            async with asyncio.timeout(patience):
                event = await self._events.get()
        except TimeoutError:
            return []
        events = [event]
        while not self._events.empty():
            events.append(self._events.get_nowait())
        pieces: dict[int, Piece] = {}
        for event in events:
            if isinstance(event, ApiError):
                if not pieces:
                    raise event
                self._events.put_nowait(event)
                break
            index, token, finish, logprobs = event
            choice = self._choices[index]
            if choice.finished:
                continue
            piece = pieces.setdefault(index, Piece(index))
            text, piece.finish = self._take(choice, token, finish)
            piece.text += text
            if logprobs is not None and finish != "stop":
                piece.logprobs.append(TokenLogprobs(token, logprobs))
        return list(pieces.values())

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        for choice in self._choices:
            self._engine.cancel(choice.job_id)
        self._on_close()

    def _take(self, choice: _Choice, token: int, finish: str | None) -> tuple[str, str | None]:
        self.completion_tokens += 1
        # The token that ends a sequence is counted, but it is not text.
        text = "" if finish == "stop" else choice.stream.push(token)
        if finish is not None:
            text += choice.stream.finish()
        if choice.stream.stopped:
            self._engine.cancel(choice.job_id, "stop")
            finish = "stop"
        choice.finished = finish is not None
        return text, finish


async def whole(generation: Generation) -> list[Piece]:
    """Every choice's whole answer, once all have ended; closes the generation however it goes."""
    answers: dict[int, Piece] = {}
    texts: dict[int, list[str]] = {}
    try:
        while not generation.finished:
            for piece in await generation.pieces():
                answer = answers.setdefault(piece.index, Piece(piece.index))
                texts.setdefault(piece.index, []).append(piece.text)
                answer.logprobs += piece.logprobs
                answer.finish = piece.finish
    finally:
        generation.close()
    for index, answer in answers.items():
        answer.text = "".join(texts[index])
    return [answers[index] for index in sorted(answers)]
