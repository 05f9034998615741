"""POST /v1/chat/completions, plain and streamed."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

import structlog
from fastapi import APIRouter, Request
from fastapi.responses import Response

from ...errors import ApiError, internal_error
from ..connection import EventStream, request_body, while_connected
from ..frames import DONE, KEEPALIVE, ChatFrames, error_frame
from ..generation import Generation, Piece, whole
from ..logprobs import chat_content
from ..registry import json_answer, registry_of, request_schema
from ..schemas.chat import ChatRequest

router = APIRouter()
log = structlog.get_logger(__name__)


@router.post("/v1/chat/completions", openapi_extra=request_schema(ChatRequest))
async def create_chat_completion(request: Request) -> Response:
    registry = registry_of(request)
    body = await request_body(request, ChatRequest)
    service = registry.for_chat(body.model)
    request.scope["log"]["model"] = service.name
    completion_id, created = f"chatcmpl-{uuid.uuid4().hex}", int(time.time())
    generation = await while_connected(request, service.generate(body))
    if body.stream:
        usage = body.stream_options is not None and body.stream_options.include_usage
        frames = ChatFrames(completion_id, created, service.name, usage=usage)
        silence = registry.config.limits.keepalive_seconds
        return EventStream(generation, _events(generation, frames, silence))
    choices = await while_connected(request, whole(generation))
    request.scope["log"]["tokens"] = generation.usage
    return json_answer(
        {
            "id": completion_id,
            "object": "chat.completion",
            "created": created,
            "model": service.name,
            "choices": [
                {
                    "index": choice.index,
                    "message": {"role": "assistant", "content": choice.text, "refusal": None},
                    "logprobs": _logprobs(generation, choice) if body.logprobs else None,
                    "finish_reason": choice.finish,
                }
                for choice in choices
            ],
            "usage": generation.usage,
        }
    )


def _logprobs(generation: Generation, choice: Piece) -> dict[str, Any]:
    return {"content": chat_content(generation.tokenizer, choice.logprobs), "refusal": None}


async def _events(generation: Generation, frames: ChatFrames, silence: float) -> AsyncIterator[bytes]:
    """The answer as server-sent events; several pieces that came together go out as one write."""
    begun: set[int] = set()
    try:
        while not generation.finished:
            pieces = await generation.pieces(patience=silence)
            out = [] if pieces else [KEEPALIVE]
            for piece in pieces:
                if piece.index not in begun:
                    begun.add(piece.index)
                    out.append(frames.role(piece.index))
                if piece.logprobs:
                    content = chat_content(generation.tokenizer, piece.logprobs)
                    out.append(frames.text(piece.index, piece.text, content))
                elif piece.text:
                    out.append(frames.text(piece.index, piece.text))
                if piece.finish is not None:
                    out.append(frames.finish(piece.index, piece.finish))
            if out:
                yield b"".join(out)
        yield frames.usage(generation.usage) + DONE
    except ApiError as error:
        yield error_frame(error) + DONE
    except Exception:
        log.exception("stream failed")
        yield error_frame(internal_error()) + DONE
