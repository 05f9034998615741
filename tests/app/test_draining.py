"""The end of a service that was told to stop: who was let in is answered, probes are told, nobody's connection is reset."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import orjson

from tests.app.support.server import ServerProcess, wait_for
from tests.app.test_faults import CHAT, endless, settings_for

StartServer = Callable[..., ServerProcess]


def connect(server: ServerProcess) -> socket.socket:
    """A connection that the service has accepted: it answers one that came later."""
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    client.settimeout(60)
    client.connect(str(server.socket))
    with server.http() as later:
        assert later.get("/health/live").status_code == 200
    return client


def head(length: int) -> bytes:
    return (
        f"POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    ).encode()


def post(**options: Any) -> bytes:
    """A chat as the bytes of its request."""
    body = orjson.dumps(endless(**options))
    return head(len(body)) + body


def to_the_end(client: socket.socket) -> bytes:
    """All that comes until the service closes the connection."""
    return b"".join(iter(lambda: client.recv(65536), b""))


def hear(client: socket.socket, mark: bytes) -> bytes:
    """What comes until it has the mark."""
    heard = b""
    while mark not in heard:
        part = client.recv(65536)
        assert part, heard
        heard += part
    return heard


def draining(server: ServerProcess) -> None:
    """Send SIGTERM and wait until the service has closed its listener."""
    server.process.send_signal(signal.SIGTERM)

    def refused() -> bool:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            return client.connect_ex(str(server.socket)) != 0

    wait_for(refused)


def test_an_accepted_connection_is_answered_while_draining(start_server: StartServer, models: dict[str, Path]) -> None:
    """One whose request comes only after SIGTERM, and one that had requests before."""
    server = start_server(settings_for(models, drain_seconds=60)).wait_ready()
    fresh, used = connect(server), connect(server)
    used.sendall(post(max_tokens=1))
    assert hear(used, b'"usage":{').startswith(b"HTTP/1.1 200 ")
    draining(server)
    for client in (fresh, used):
        client.sendall(post(max_tokens=3))
    for client in (fresh, used):
        answer = to_the_end(client)
        assert answer.startswith(b"HTTP/1.1 200 ") and b'"completion_tokens":3' in answer
        assert b"connection: close\r\n" in answer
    assert server.process.wait(60) == 0


def test_probes_are_told_that_the_service_drains(start_server: StartServer, models: dict[str, Path]) -> None:
    """On the connection they have, as long as an answer is under way, and the service waits for them no longer."""
    server = start_server(settings_for(models, drain_seconds=60)).wait_ready()
    running = connect(server)
    running.sendall(post(stream=True))
    assert running.recv(1000).startswith(b"HTTP/1.1 200 ")
    with server.http() as probe:
        assert probe.get("/health/ready").status_code == 200
        draining(server)
        for _ in range(4):
            told = probe.get("/health/ready")
            assert (told.status_code, told.json()["error"]["code"]) == (503, "server_shutting_down")
            assert probe.get("/health/live").status_code == 200
            time.sleep(0.3)
        running.close()
        assert server.process.wait(20) == 0


def test_a_request_that_is_half_sent_ends_with_the_drain(start_server: StartServer, models: dict[str, Path]) -> None:
    server = start_server(settings_for(models, drain_seconds=1)).wait_ready()
    client = connect(server)
    client.sendall(head(1000) + b'{"model":')
    started = time.monotonic()
    draining(server)
    answer = to_the_end(client)
    assert answer.startswith(b"HTTP/1.1 503 ") and b'"code":"server_shutting_down"' in answer
    assert b"x-should-retry: true\r\n" in answer and b"connection: close\r\n" in answer
    assert server.process.wait(60) == 0
    assert 0.9 < time.monotonic() - started < 5


def test_a_client_that_only_connected_holds_the_end_up_for_a_moment(
    start_server: StartServer, models: dict[str, Path]
) -> None:
    server = start_server(settings_for(models, drain_seconds=60)).wait_ready()
    client = connect(server)
    with httpx2.Client(transport=httpx2.HTTPTransport(uds=str(server.socket)), base_url="http://x") as idle:
        assert idle.get("/v1/models").status_code == 200
        assert server.stop(20) == 0
    assert to_the_end(client) == b""
