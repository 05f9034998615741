"""OpenTelemetry traces: one span per request, sent to a collector as OTLP over HTTP in its JSON form.

A request that comes with a `traceparent` (W3C Trace Context) is a part of that trace, and is left out when its sender
decided not to sample it. Nothing waits for the collector: what it does not take in time is dropped and counted.
"""

from __future__ import annotations

import asyncio
import http.client
import re
import secrets
import time
import urllib.request
from collections import deque
from typing import Any

import orjson
import structlog

from .. import __version__

log = structlog.get_logger(__name__)

_TRACEPARENT = re.compile(rb"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_PAUSE = 2.0
_TIMEOUT = 5.0
_MOST = 4096
_SERVER, _ERROR = 2, 2


class Span:
    """A request under way; times in nanoseconds since 1970."""

    def __init__(self, trace: str, parent: str) -> None:
        self.trace, self.parent, self.id = trace, parent, secrets.token_hex(8)
        self.begun, self.first = time.time_ns(), 0


class Traces:
    """Collects spans and sends them to `endpoint` (http://collector:4318)."""

    def __init__(self, endpoint: str) -> None:
        self._url = endpoint.rstrip("/") + ("" if endpoint.rstrip("/").endswith("/v1/traces") else "/v1/traces")
        self._ended: deque[dict[str, Any]] = deque(maxlen=_MOST)
        self._dropped = 0

    def begin(self, headers: dict[bytes, bytes]) -> Span | None:
        """The span of a request; None when the trace it belongs to is not sampled."""
        parent = _TRACEPARENT.fullmatch(headers.get(b"traceparent", b""))
        if parent is None:
            return Span(secrets.token_hex(16), "")
        if not int(parent[3], 16) & 1:
            return None
        return Span(parent[1].decode(), parent[2].decode())

    def end(self, span: Span, route: str, record: dict[str, Any], request_id: str) -> None:
        """Book the span with what the request's log line says."""
        tokens = record.get("tokens") or {}
        told = {
            "http.request.method": record["method"],
            "http.route": route,
            "http.response.status_code": record["status"],
            "gen_ai.request.model": record.get("model"),
            "gen_ai.usage.input_tokens": tokens.get("prompt_tokens"),
            "gen_ai.usage.output_tokens": tokens.get("completion_tokens"),
            "bedplate.request_id": request_id,
            "bedplate.key": record.get("key"),
        }
        if len(self._ended) == _MOST:
            self._dropped += 1
        self._ended.append(
            {
                "traceId": span.trace,
                "spanId": span.id,
                **({"parentSpanId": span.parent} if span.parent else {}),
                "name": f"{record['method']} {route}",
                "kind": _SERVER,
                "startTimeUnixNano": str(span.begun),
                "endTimeUnixNano": str(time.time_ns()),
                "attributes": _attributes(told),
                "events": [{"timeUnixNano": str(span.first), "name": "first byte"}] if span.first else [],
                "status": {"code": _ERROR} if (record["status"] or 500) >= 500 else {},
            }
        )

    async def run(self) -> None:
        """Send what has ended, every two seconds, for ever."""
        while True:
            await asyncio.sleep(_PAUSE)
            await self.flush()

    async def flush(self) -> None:
        if not self._ended:
            return
        spans = list(self._ended)
        self._ended.clear()
        try:
            await asyncio.to_thread(self._send, spans)
        except (OSError, ValueError, http.client.HTTPException) as error:
            self._dropped += len(spans)
            log.warning("traces not taken", endpoint=self._url, error=str(error) or repr(error), dropped=self._dropped)

    def _send(self, spans: list[dict[str, Any]]) -> None:
        service = _attributes({"service.name": "bedplate", "service.version": __version__})
        scope = {"scope": {"name": "bedplate_server", "version": __version__}, "spans": spans}
        body = orjson.dumps({"resourceSpans": [{"resource": {"attributes": service}, "scopeSpans": [scope]}]})
        request = urllib.request.Request(self._url, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:
            answer.read()


def _attributes(values: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": _value(value)} for key, value in values.items() if value is not None]


def _value(value: Any) -> dict[str, str]:
    return {"intValue": str(value)} if isinstance(value, int) else {"stringValue": str(value)}
