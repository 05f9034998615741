"""OpenTelemetry spans, as a collector receives them. The double speaks OTLP over HTTP and keeps what it was sent."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.app.support.server import ServerProcess, wait_for

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
StartServer = Callable[..., ServerProcess]


class Collector(HTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Take)
        self.spans: list[dict[str, Any]] = []
        self.names: set[str] = set()

    def named(self, trace: str) -> dict[str, Any]:
        """The span of a trace, once it has come."""
        wait_for(lambda: any(span["traceId"] == trace for span in self.spans))
        return next(span for span in self.spans if span["traceId"] == trace)


class _Take(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        sent = json.loads(self.rfile.read(int(self.headers["content-length"])))
        assert self.path == "/v1/traces"
        for resource in sent["resourceSpans"]:
            self.server.names |= {one["value"]["stringValue"] for one in resource["resource"]["attributes"]}
            self.server.spans += [span for scope in resource["scopeSpans"] for span in scope["spans"]]
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[Collector]:
    server = Collector()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


def attributes(span: dict[str, Any]) -> dict[str, str]:
    return {one["key"]: next(iter(one["value"].values())) for one in span["attributes"]}


def test_a_request_is_a_span_of_its_callers_trace(
    start_server: StartServer, models: dict[str, Path], collector: Collector
) -> None:
    served = [{"name": "llama", "path": str(models["llama"])}]
    endpoint = f"http://127.0.0.1:{collector.server_port}"
    server = start_server({"models": served, "traces_endpoint": endpoint}).wait_ready()
    chat: dict[str, Any] = {"model": "llama", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 3}
    with server.http() as http:
        http.post("/v1/chat/completions", json=chat, headers={"traceparent": f"00-{TRACE}-{PARENT}-00"})
        answer = http.post(
            "/v1/chat/completions",
            json=chat,
            headers={"traceparent": f"00-{TRACE}-{PARENT}-01", "x-request-id": "mine"},
        )
        http.get("/v1/models/nobody", headers={"traceparent": "not one"})
    span = collector.named(TRACE)
    assert (span["parentSpanId"], span["name"], span["kind"]) == (PARENT, "POST /v1/chat/completions", 2)
    told = attributes(span)
    usage = answer.json()["usage"]
    assert told["gen_ai.usage.output_tokens"] == str(usage["completion_tokens"])
    assert (told["http.response.status_code"], told["gen_ai.request.model"]) == ("200", "llama")
    assert told["bedplate.request_id"] == "mine"
    (first,) = span["events"]
    assert int(span["startTimeUnixNano"]) < int(first["timeUnixNano"]) <= int(span["endTimeUnixNano"])
    assert "bedplate" in collector.names
    of_the_trace = [one for one in collector.spans if one["traceId"] == TRACE]
    assert len(of_the_trace) == 1, "the caller did not want the other one sampled"
    lost = next(one for one in collector.spans if one["traceId"] != TRACE)
    assert attributes(lost)["http.response.status_code"] == "404" and len(lost["traceId"]) == 32
    assert not [one for one in collector.spans if "health" in one["name"]]


def test_a_collector_that_is_away_costs_nothing_but_spans(
    start_server: StartServer, models: dict[str, Path], free_port: int
) -> None:
    served = [{"name": "llama", "path": str(models["llama"])}]
    endpoint = f"http://127.0.0.1:{free_port}"
    server = start_server({"models": served, "traces_endpoint": endpoint}).wait_ready()
    assert server.openai().models.list().data
    wait_for(lambda: bool(server.events("traces not taken")))
    assert server.events("traces not taken")[0]["dropped"] >= 1
    assert server.openai().models.list().data
    assert server.stop(60) == 0


def test_what_answers_in_another_protocol_does_not_end_the_sending(
    start_server: StartServer, models: dict[str, Path]
) -> None:
    """As a collector's port for gRPC does, until another one answers there; the last spans go out at the end."""
    served = [{"name": "llama", "path": str(models["llama"])}]
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = []

        def answer() -> None:
            while True:
                try:
                    client, _ = other.accept()
                except OSError:
                    return
                with client:
                    taken.append(client.recv(65536))
                    client.sendall(b"\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x05\x00\x00@\x00")

        threading.Thread(target=answer, daemon=True).start()
        server = start_server({"models": served, "traces_endpoint": f"http://127.0.0.1:{other.getsockname()[1]}"})
        server.wait_ready()
        for count in (1, 2):
            assert server.openai().models.list().data
            wait_for(lambda count=count: len(server.events("traces not taken")) >= count)  # type: ignore[misc]
        assert server.openai().models.list().data
        assert server.stop(60) == 0
        assert len(taken) >= 3
        assert server.events("engine ended")
        assert "Traceback" not in server.log()
