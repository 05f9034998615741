"""The client's end: its connection, reading a request's body, and noticing when it has gone."""

from __future__ import annotations

import asyncio
import contextlib
import select
from collections.abc import Coroutine
from typing import Any, TypeVar

from fastapi import Request
from starlette.requests import ClientDisconnect
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from ..errors import ApiError, shutting_down
from .generation import Generation
from .schemas.base import RequestType, parse

Result = TypeVar("Result")

# Above this size parsing takes milliseconds, which other streams would notice.
_LARGE_BODY = 64 * 1024
_LOOK_SECONDS = 0.25


class ClientGone(Exception):
    """Nobody waits for the answer any more."""


class Connection(HttpToolsProtocol):
    """uvicorn's, but a client is seen to go even while a request of its own waits behind the running one.

    uvicorn then stops reading, where it would see the end, and would tell the last request alone.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self._unanswered: list[RequestResponseCycle] = []

    def on_headers_complete(self) -> None:
        waiting = len(self.pipeline)
        super().on_headers_complete()
        self._unanswered.append(self.cycle)
        if self.pipeline and not waiting:
            self.loop.call_later(_LOOK_SECONDS, self._look)

    def on_response_complete(self) -> None:
        self._unanswered = [cycle for cycle in self._unanswered if not cycle.response_complete]
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        for cycle in self._unanswered:
            cycle.disconnected = True
            cycle.message_event.set()

    def _look(self) -> None:
        """Ask the system whether the client has closed its end, again and again while requests wait."""
        if not self.pipeline or self.transport.is_closing():
            return
        poll = select.poll()
        poll.register(self.transport.get_extra_info("socket").fileno(), select.POLLRDHUP)
        if poll.poll(0):
            self.transport.abort()
        else:
            self.loop.call_later(_LOOK_SECONDS, self._look)


class Uploads:
    """The bodies being read; `end` stops them all, and those that come later, with ApiError 503."""

    def __init__(self) -> None:
        self._bounds: set[asyncio.Timeout] = set()
        self._ended = False

    async def read(self, request: Request) -> bytes:
        """The whole body, or ClientGone."""
        try:
            async with asyncio.timeout(0 if self._ended else None) as bound:
                self._bounds.add(bound)
                try:
                    return await request.body()
                finally:
                    self._bounds.discard(bound)
        except TimeoutError:
            raise shutting_down() from None
        except ClientDisconnect:
            raise ClientGone from None

    def end(self) -> None:
        if self._ended:
            return
        self._ended = True
        for bound in self._bounds:
            bound.reschedule(asyncio.get_running_loop().time())


async def request_body(request: Request, kind: type[RequestType]) -> RequestType:
    """The validated body. Only JSON is taken: a browser cannot be tricked into sending it across sites."""
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type != "application/json":
        raise ApiError(415, "Send the body as 'Content-Type: application/json'.", code="unsupported_media_type")
    body = await request.app.state.uploads.read(request)
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
