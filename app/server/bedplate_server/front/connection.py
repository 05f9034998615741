"""The client's end of a request: reading its body, and noticing when it has gone."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any, TypeVar

from fastapi import Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from ..errors import ApiError
from .generation import Generation
from .schemas.base import RequestType, parse

Result = TypeVar("Result")

# Above this size parsing takes milliseconds, which other streams would notice.
_LARGE_BODY = 64 * 1024


class ClientGone(Exception):
    """Nobody waits for the answer any more."""


async def request_body(request: Request, kind: type[RequestType]) -> RequestType:
    """The validated body. Only JSON is taken: a browser cannot be tricked into sending it across sites."""
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type != "application/json":
        raise ApiError(415, "Send the body as 'Content-Type: application/json'.", code="unsupported_media_type")
    body = await request.body()
    if len(body) > _LARGE_BODY:
        return await asyncio.to_thread(parse, kind, body)
    return parse(kind, body)


async def while_connected(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """Result of `work`, which is cancelled when the client goes away; then ClientGone."""
    task = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_departure(request))
    try:
        await asyncio.wait({task, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientGone
    finally:
        for open_task in (task, leaving):
            open_task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await open_task


async def _departure(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


class EventStream(StreamingResponse):
    """A streamed generation, closed when the stream ends for whatever reason, a client that left included."""

    media_type = "text/event-stream"

    def __init__(self, generation: Generation, content: Any) -> None:
        # X-Accel-Buffering asks Nginx to pass every event on at once.
        super().__init__(content, headers={"cache-control": "no-cache", "x-accel-buffering": "no"})
        self._generation = generation

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._generation.close()
            scope["log"]["tokens"] = self._generation.usage
