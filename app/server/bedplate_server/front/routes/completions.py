"""POST /v1/completions: one or several prompts continued, plain and streamed."""

from __future__ import annotations

import time
import uuid
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from ..connection import EventStream, request_body, while_connected
from ..frames import CompletionFrames
from ..generation import Generation, Piece, whole
from ..logprobs import Echo, completion_logprobs, echoed_logprobs
from ..registry import json_answer, registry_of, request_schema
from ..schemas.completions import CompletionRequest
from ..streaming import events

router = APIRouter()


@router.post("/v1/completions", openapi_extra=request_schema(CompletionRequest))
async def create_completion(request: Request) -> Response:
    registry = registry_of(request)
    body = await request_body(request, CompletionRequest)
    service = registry.for_completion(body.model)
    request.scope["log"]["model"] = service.name
    head = {
        "id": f"cmpl-{uuid.uuid4().hex}",
        "object": "text_completion",
        "created": int(time.time()),
        "model": body.model,
    }
    generation, prompts = await while_connected(request, service.complete(body))
    if body.stream:
        frames = CompletionFrames(head, body.stream_options, lambda: generation.usage)
        stream = _Stream(frames, generation, prompts, body)
        silence = registry.config.limits.keepalive_seconds
        return EventStream(generation, events(generation, stream.render, frames, silence))
    answers = await while_connected(request, whole(generation))
    request.scope["log"]["tokens"] = generation.usage
    choices: list[dict[str, Any]] = []
    for number, echo in enumerate(prompts):
        candidates = answers[number * body.candidates : (number + 1) * body.candidates]
        if body.candidates > body.n:
            candidates = sorted(candidates, key=_likelihood, reverse=True)[: body.n]
        for piece in candidates:
            logprobs = _logprobs(generation, piece, echo) if body.logprobs is not None else None
            choice = {"index": len(choices), "text": echo.text + piece.text, "logprobs": logprobs}
            choices.append({**choice, "finish_reason": piece.finish})
    return json_answer({**head, "choices": choices, "usage": generation.usage})


def _logprobs(generation: Generation, piece: Piece, echo: Echo, offset: int = 0) -> dict[str, Any]:
    """Of a piece's tokens, behind those of the prompt if the piece begins with it."""
    if not echo.tokens:
        return completion_logprobs(generation.tokenizer, piece.logprobs, offset)
    prompt = generation.prompt_logprobs(piece.index)
    return echoed_logprobs(generation.tokenizer, echo, prompt, piece.logprobs)


def _likelihood(piece: Piece) -> float:
    """Mean log probability of the answer's tokens."""
    return sum(one.logprobs[0] for one in piece.logprobs) / max(len(piece.logprobs), 1)


class _Stream:
    """Chunks of the choices; with `echo` each begins with its prompt."""

    def __init__(
        self, frames: CompletionFrames, generation: Generation, prompts: list[Echo], body: CompletionRequest
    ) -> None:
        self._frames = frames
        self._generation = generation
        self._logprobs = body.logprobs is not None
        count = len(prompts) * body.n
        # What each choice still has to begin with, and how long its text is so far.
        self._heads = {index: prompts[index // body.n] for index in range(count)} if body.echo else {}
        self._lengths = [0] * count

    def render(self, piece: Piece) -> bytes:
        echo, logprobs = self._heads.pop(piece.index, Echo()), None
        text = echo.text + piece.text
        if self._logprobs and (piece.logprobs or echo.tokens):
            logprobs = _logprobs(self._generation, piece, echo, self._lengths[piece.index])
        self._lengths[piece.index] += len(text)
        if not (text or logprobs or piece.finish):
            return b""
        return self._frames.text(piece.index, text, logprobs, piece.finish)
