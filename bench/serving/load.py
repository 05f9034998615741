"""Load on an OpenAI-compatible server: so many clients at once, each asking again as soon as it has its answer.

Plain sockets and no parsing while an answer runs, so that the client takes little of a machine it shares with
the server; tokens are counted by the usage every server reports.
"""

from __future__ import annotations

import asyncio
import json
import math
import statistics
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

TIMEOUT = 300.0


@dataclass(frozen=True)
class Answer:
    """One request's end: seconds to the first text (of a stream), seconds in all, tokens generated."""

    first: float
    seconds: float
    tokens: int


class Failed(Exception):
    """The server did not answer as asked."""


@dataclass
class _Response:
    status: int
    body: bytes
    first: float


async def _asked(port: int, path: str, body: dict[str, Any], mark: bytes | None = None) -> _Response:
    """The response to a POST, whose status is 200. Raises Failed."""
    response = await _exchange(port, _post(port, path, body), mark)
    if response.status != 200:
        raise Failed(f"{response.status}: {response.body[:300]!r}")
    return response


async def _exchange(port: int, request: bytes, mark: bytes | None) -> _Response:
    """Send the request and read the response; `first` is when `mark` was first followed by something else than `"`."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**20)
    try:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        status = int(head.split(b" ", 2)[1])
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
        if b"content-length" in fields:
            return _Response(status, await reader.readexactly(int(fields[b"content-length"])), time.perf_counter())
        parts: list[bytes] = []
        first = 0.0
        while size := int(await reader.readuntil(b"\r\n"), 16):
            parts.append((await reader.readexactly(size + 2))[:-2])
            if not first and mark is not None and _text_in(parts[-1], mark):
                first = time.perf_counter()
        return _Response(status, b"".join(parts), first)
    finally:
        writer.close()


def _text_in(part: bytes, mark: bytes) -> bool:
    return any(piece[:1] not in (b'"', b"") for piece in part.split(mark)[1:])


def _post(port: int, path: str, body: dict[str, Any]) -> bytes:
    content = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(content)}\r\nconnection: close\r\n\r\n".encode() + content


async def chat(port: int, body: dict[str, Any]) -> Answer:
    """One chat, streamed or not as the body says. Raises Failed."""
    started = time.perf_counter()
    response = await _asked(port, "/v1/chat/completions", body, b'"content":"')
    ended = time.perf_counter()
    if body.get("stream"):
        events = [event[6:] for event in response.body.split(b"\n\n") if event.startswith(b"data: {")]
        reported = [usage for event in events if (usage := json.loads(event).get("usage"))]
    else:
        reported = [json.loads(response.body)["usage"]]
    if not reported or reported[-1]["completion_tokens"] != body["max_tokens"]:
        raise Failed(f"wanted {body['max_tokens']} tokens, reported {reported[-1:]}: {response.body[-300:]!r}")
    return Answer((response.first or ended) - started, ended - started, reported[-1]["completion_tokens"])


async def embed(port: int, body: dict[str, Any]) -> Answer:
    """One embedding request of one text. Raises Failed."""
    started = time.perf_counter()
    response = await _asked(port, "/v1/embeddings", body)
    if len(json.loads(response.body)["data"]) != 1:
        raise Failed(f"wanted one vector: {response.body[:300]!r}")
    ended = time.perf_counter()
    return Answer(ended - started, ended - started, 1)


def vectors(port: int, body: dict[str, Any]) -> list[list[float]]:
    """The vectors of one embedding request of several texts. Raises Failed."""
    response = asyncio.run(_asked(port, "/v1/embeddings", body))
    return [one["embedding"] for one in json.loads(response.body)["data"]]


async def _closed_loop(ask: Any, port: int, bodies: Iterable[dict[str, Any]], clients: int) -> list[Answer]:
    queue = iter(bodies)
    answers: list[Answer] = []

    async def client() -> None:
        for body in queue:
            answers.append(await asyncio.wait_for(ask(port, body), TIMEOUT))

    await asyncio.gather(*(client() for _ in range(clients)))
    return answers


def measure(ask: Any, port: int, bodies: list[dict[str, Any]], clients: int) -> dict[str, Any]:
    """tokens (or texts) per second over the whole load, and seconds to the first text: median and 99th percentile."""
    started = time.perf_counter()
    answers = asyncio.run(_closed_loop(ask, port, bodies, clients))
    seconds = time.perf_counter() - started
    firsts = sorted(answer.first for answer in answers)
    return {
        "per_second": round(sum(answer.tokens for answer in answers) / seconds, 1),
        "first_p50_ms": round(statistics.median(firsts) * 1000, 1),
        "first_p99_ms": round(firsts[math.ceil(len(firsts) * 0.99) - 1] * 1000, 1),
        "requests": len(answers),
    }
