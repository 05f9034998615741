"""POST /v1/chat/completions, plain and streamed."""

from __future__ import annotations

import time
import uuid
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from ..connection import EventStream, request_body, while_connected
from ..frames import ChatFrames
from ..generation import Generation, Piece, whole
from ..logprobs import chat_content
from ..reader import Delta, Reader
from ..registry import json_answer, registry_of, request_schema
from ..schemas.chat import ChatRequest
from ..streaming import events

router = APIRouter()


@router.post("/v1/chat/completions", openapi_extra=request_schema(ChatRequest))
async def create_chat_completion(request: Request) -> Response:
    registry = registry_of(request)
    body = await request_body(request, ChatRequest)
    service = registry.for_chat(body.model)
    request.scope["log"]["model"] = service.name
    head: dict[str, Any] = {
        "id": f"chatcmpl-{uuid.uuid4().hex}",
        "object": "chat.completion.chunk" if body.stream else "chat.completion",
        "created": int(time.time()),
        "model": body.model,
    }
    generation, readers = await while_connected(request, service.chat(body))
    if body.stream:
        frames = ChatFrames(head, body.stream_options, lambda: generation.usage)
        stream = _Stream(frames, generation, readers)
        silence = registry.config.limits.keepalive_seconds
        return EventStream(generation, events(generation, stream.render, frames, silence))
    choices = await while_connected(request, whole(generation))
    request.scope["log"]["tokens"] = generation.usage
    shown = [_choice(generation, choice, readers[choice.index], logprobs=body.logprobs) for choice in choices]
    return json_answer({**head, "choices": shown, "usage": generation.usage})


def _choice(generation: Generation, piece: Piece, reader: Reader, *, logprobs: bool) -> dict[str, Any]:
    deltas = [*reader.push(piece.text), *reader.finish()]
    content = {"content": chat_content(generation.tokenizer, piece.logprobs), "refusal": None} if logprobs else None
    return {
        "index": piece.index,
        "message": _message(deltas),
        "logprobs": content,
        "finish_reason": _reason(piece, reader),
    }


def _message(deltas: list[Delta]) -> dict[str, Any]:
    """The whole answer, of what would have been streamed. Content is null beside calls, as OpenAI has it."""

    def text(kind: str) -> str:
        return "".join(delta.text for delta in deltas if delta.kind == kind)

    calls: list[dict[str, Any]] = []
    for delta in deltas:
        if delta.kind == "call":
            function = {"name": delta.text, "arguments": ""}
            calls.append({"id": delta.id, "type": "function", "function": function})
        elif delta.kind == "arguments":
            calls[delta.call]["function"]["arguments"] += delta.text
    message: dict[str, Any] = {"role": "assistant", "content": text("content"), "refusal": None}
    if any(delta.kind == "reasoning" for delta in deltas):
        message["reasoning_content"] = text("reasoning")
    if calls:
        message |= {"content": message["content"] or None, "tool_calls": calls}
    return message


def _reason(piece: Piece, reader: Reader) -> str | None:
    return "tool_calls" if piece.finish == "stop" and reader.calls else piece.finish


class _Stream:
    """Chunks of the choices of one answer; each begins with its role."""

    def __init__(self, frames: ChatFrames, generation: Generation, readers: list[Reader]) -> None:
        self._frames = frames
        self._generation = generation
        self._readers = readers
        self._begun: set[int] = set()

    def render(self, piece: Piece) -> bytes:
        index, frames, reader = piece.index, self._frames, self._readers[piece.index]
        out = []
        if index not in self._begun:
            self._begun.add(index)
            out.append(frames.role(index))
        deltas = reader.push(piece.text)
        if piece.finish is not None:
            deltas += reader.finish()
        if piece.logprobs:
            # With the first text of the piece, or with none where the reader still holds it back.
            first = deltas.pop(0).text if deltas and deltas[0].kind == "content" else ""
            out.append(frames.text(index, first, chat_content(self._generation.tokenizer, piece.logprobs)))
        out += [frames.delta(index, delta) for delta in deltas]
        if piece.finish is not None:
            out.append(frames.finish(index, _reason(piece, reader) or piece.finish))
        return b"".join(out)
