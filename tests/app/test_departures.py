"""Clients that go at awkward moments, and what a request that failed leaves of its connection."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import uvicorn
from bedplate_server.config import Limits
from bedplate_server.front.app import _application
from bedplate_server.front.connection import Connection
from bedplate_server.front.metrics import Metrics
from bedplate_server.front.middleware import Gate
from fastapi import FastAPI

from tests.app.support.server import ServerProcess, wait_for
from tests.app.test_draining import connect, head, hear, post, to_the_end


def running(server: ServerProcess) -> float:
    return server.metric("vllm:num_requests_running")


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_with_another_request_waiting_ends_both(tools_server: ServerProcess, stream: bool) -> None:
    client = connect(tools_server)
    client.sendall(post(stream=stream))
    wait_for(lambda: running(tools_server) == 1)
    client.sendall(post())
    time.sleep(0.1)
    client.close()
    wait_for(lambda: running(tools_server) == 0, seconds=5)
    time.sleep(0.5)
    assert running(tools_server) == 0, "the second one was started"


def test_requests_that_wait_on_a_connection_are_answered_in_turn(tools_server: ServerProcess) -> None:
    client = connect(tools_server)
    client.sendall(
        post(max_tokens=300) + post(max_tokens=2) + post(max_tokens=3).replace(b"host:", b"connection: close\r\nhost:")
    )
    answer = to_the_end(client)
    counts = [answer.find(b'"completion_tokens":%d,' % count) for count in (300, 2, 3)]
    assert answer.count(b"HTTP/1.1 200 ") == 3
    assert -1 < counts[0] < counts[1] < counts[2]


def test_a_client_that_goes_while_it_sends_is_no_fault_of_ours(tools_server: ServerProcess) -> None:
    def seen() -> list[int]:
        return [line["status"] for line in tools_server.events("request") if line["path"].endswith("/completions")]

    before = len(seen())
    with connect(tools_server) as client:
        client.sendall(head(1000) + b'{"model":')
    with connect(tools_server) as client:
        broken = head(0).replace(b"content-length: 0", b"transfer-encoding: chunked")
        client.sendall(broken + b"no length of a chunk\r\n")
        to_the_end(client)
    wait_for(lambda: len(seen()) == before + 2)
    assert seen()[before:] == [499, 499]
    assert not tools_server.events("request failed")


def test_tokens_without_text_are_silence(models: dict[str, Path], tmp_path: Path) -> None:
    served = [{"name": "endless", "path": str(models["endless"])}]
    server = ServerProcess(tmp_path, {"models": served, "limits": {"keepalive_seconds": 0.3}})
    try:
        with server.wait_ready().http() as http:
            asked = {"model": "endless", "prompt": "<|system|>"}
            (special, *_) = http.post("/tokenize", json=asked).json()["tokens"]
        with connect(server) as client:
            client.sendall(post(stream=True, logit_bias={str(special): 100}))
            heard, until = b"", time.monotonic() + 60
            while heard.count(b": keep-alive\n\n") < 3 and b"[DONE]" not in heard and time.monotonic() < until:
                heard += client.recv(65536)
        assert heard.count(b": keep-alive\n\n") >= 3
        assert b'"content":"' not in heard.replace(b'"content":""', b"")
    finally:
        server.stop()


@contextlib.asynccontextmanager
async def _nothing(_app: FastAPI) -> AsyncIterator[None]:
    yield


@pytest.fixture
def failing(tmp_path: Path) -> Iterator[Path]:
    """The socket of the front's application without models, on which /fails raises."""
    app = _application(None, _nothing)  # type: ignore[arg-type]

    @app.get("/fails")
    async def fails() -> None:
        raise RuntimeError("nobody foresaw this")

    gate = Gate(app, None, Limits(), Metrics(), None)
    config = uvicorn.Config(gate, uds=str(tmp_path / "s.sock"), http=Connection, log_config=None)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()))
    thread.start()
    wait_for(lambda: server.started)
    yield tmp_path / "s.sock"
    server.should_exit = True
    thread.join()


def test_an_unforeseen_error_can_be_tried_again_on_the_same_connection(failing: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(60)
        client.connect(str(failing))
        for _ in range(3):
            client.sendall(b"GET /fails HTTP/1.1\r\nhost: x\r\n\r\n")
            answer = hear(client, b'"code":"internal_error"}}')
            assert answer.startswith(b"HTTP/1.1 500 ")
            assert b"x-should-retry: true\r\n" in answer and b"retry-after: 1\r\n" in answer
            time.sleep(0.1)
