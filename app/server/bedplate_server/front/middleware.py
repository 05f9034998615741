"""What every request passes first: its id, its key, the body limit; and the one log line it leaves behind."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import time
import uuid

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..config import Limits
from ..errors import ApiError, internal_error, shutting_down
from .keys import ApiKey, KeyRing
from .limits import KeyLimits
from .metrics import Metrics
from .traces import Traces

log = structlog.get_logger(__name__)

_REQUEST_ID = re.compile(rb"[\x21-\x7e]{1,128}")
OPEN_PATHS = ("/health/live", "/health/ready")
_UNTRACED_PATHS = (*OPEN_PATHS, "/metrics")


class Gate:
    """The outermost ASGI application. Everything below may raise ApiError before its response has started.

    With `draining` set, answers say that their connection ends with them; but for those to probes, which stay.
    """

    draining = False

    def __init__(
        self, app: ASGIApp, keys: KeyRing | None, limits: Limits, metrics: Metrics, traces: Traces | None
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._traces = traces
        self._keys = keys
        self._key_limits = KeyLimits(limits)
        self._max_body = limits.max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        headers = dict(scope["headers"])
        request_id = _request_id(headers)
        started = time.monotonic()
        # Routes add what they learn to the request's log line here.
        record = scope["log"] = {"method": scope["method"], "path": scope["path"], "status": None}
        structlog.contextvars.bind_contextvars(request_id=request_id.decode())
        span = self._traces.begin(headers) if self._traces and scope["path"] not in _UNTRACED_PATHS else None
        complete = False

        async def send_with_id(message: Message) -> None:
            nonlocal complete
            if message["type"] == "http.response.start":
                record["status"] = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", request_id)]
                if self.draining and scope["path"] not in OPEN_PATHS:
                    message["headers"].append((b"connection", b"close"))
            else:
                complete = not message.get("more_body", False)
                if span and not span.first:
                    span.first = time.time_ns()
            await send(message)

        try:
            key = self._key(scope["path"], headers)
            record["key"] = key.id if key else None
            # Looking at the models, say, costs nothing and is not counted.
            counted = self._key_limits.admit(key) if key and scope["method"] == "POST" else contextlib.nullcontext()
            with counted:
                await self._app(scope, self._limited(headers, receive), send_with_id)
        except ApiError as error:
            await _answer(error, send_with_id)
        except Exception:
            log.exception("request failed")
            if record["status"] is None:
                await _answer(internal_error(), send_with_id)
            elif not complete:
                # uvicorn cuts the connection, so that nobody takes the answer for whole.
                raise
        except asyncio.CancelledError:
            # By uvicorn, when the drain is over.
            if record["status"] is not None:
                raise
            await _answer(shutting_down(), send_with_id)
        finally:
            # The route's own path, not the request's: paths are as many as clients care to make up.
            path, status = getattr(scope.get("route"), "path", "none"), f"{(record['status'] or 499) // 100}xx"
            method = scope["method"] if scope["method"] in ("GET", "POST") else "other"
            self._metrics.http.labels(path, method, status).inc()
            if span and self._traces:
                self._traces.end(span, path, record, request_id.decode())
            # Probes come every few seconds and say nothing new.
            level = logging.DEBUG if scope["path"] in OPEN_PATHS else logging.INFO
            log.log(level, "request", **record, seconds=round(time.monotonic() - started, 4))
            structlog.contextvars.unbind_contextvars("request_id")

    def _key(self, path: str, headers: dict[bytes, bytes]) -> ApiKey | None:
        if self._keys is None or path in OPEN_PATHS:
            return None
        scheme, _, presented = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
        if scheme.lower() != "bearer" or not presented.strip():
            raise ApiError(401, "You didn't provide an API key (Authorization: Bearer KEY).", code="missing_api_key")
        key = self._keys.holder(presented.strip())
        if key is None:
            raise ApiError(401, "Incorrect API key provided.", code="invalid_api_key")
        return key

    def _limited(self, headers: dict[bytes, bytes], receive: Receive) -> Receive:
        """`receive`, but a body over the limit ends the request, announced or not."""
        announced = headers.get(b"content-length", b"0")
        if announced.isdigit() and int(announced) > self._max_body:
            raise self._too_large()
        seen = 0

        async def limited() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self._max_body:
                raise self._too_large()
            return message

        return limited

    def _too_large(self) -> ApiError:
        return ApiError(413, f"The request body is larger than {self._max_body} bytes.", code="request_too_large")


def _request_id(headers: dict[bytes, bytes]) -> bytes:
    """The client's id if it is printable, for its own logs; ours otherwise. Nothing inside is keyed by it."""
    given = headers.get(b"x-request-id", b"")
    return given if _REQUEST_ID.fullmatch(given) else b"req_" + uuid.uuid4().hex.encode()


async def _answer(error: ApiError, send: Send) -> None:
    headers = [(name.encode(), value.encode()) for name, value in (error.headers or {}).items()]
    headers += [(b"content-type", b"application/json"), (b"content-length", str(len(error.body)).encode())]
    if error.status_code == 413:
        # The rest of the body is still on its way and nobody will read it.
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": error.status_code, "headers": headers})
    await send({"type": "http.response.body", "body": error.body})
