"""Keys, the bounded queue and the other limits, on a service with little of everything."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import openai
import orjson
import pytest

from tests.app.support.server import ServerProcess, wait_for
from tests.app.test_keys import KEY, OTHER, entry, write

CHAT = "/v1/chat/completions"
ENDLESS = {"model": "endless", "messages": [{"role": "user", "content": "go"}], "max_tokens": 20_000}
SHORT = {**ENDLESS, "max_tokens": 1}


@pytest.fixture(scope="module")
def keys_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("keys") / "keys.yml", entry(KEY, name="default"))


@pytest.fixture(scope="module")
def small(
    models: dict[str, Path], keys_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    """One slot, two places in the queue, a key, a comment every 0.2 s of silence; open to the network by TCP."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = {
        "listen": {"host": "0.0.0.0", "port": port},
        "models": [{"name": "endless", "path": str(models["endless"]), "max_batch": 1}],
        "keys_file": str(keys_file),
        "limits": {"max_queue": 2, "keepalive_seconds": 0.2, "max_body_bytes": 2000, "max_tokens_default": 7},
    }
    process = ServerProcess(tmp_path_factory.mktemp("small"), settings)
    yield process.wait_ready()
    process.stop()


def authorised(key: str = KEY) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def occupy(server: ServerProcess, count: int) -> list[Any]:
    """Start `count` endless streams; closing what is returned ends them."""
    streams: list[Any] = []
    for _ in range(count):
        http = server.http(headers=authorised())
        streams.append(http.send(http.build_request("POST", CHAT, json={**ENDLESS, "stream": True}), stream=True))
        assert streams[-1].status_code == 200
    return streams


def wait_until_free(server: ServerProcess) -> None:
    """Until a one-token request is answered."""
    with server.http(headers=authorised()) as http:
        wait_for(lambda: http.post(CHAT, json=SHORT).status_code == 200)


def wait_until(server: ServerProcess, state: str, count: int) -> None:
    """Until so many requests of `endless` are "running" or "waiting"."""
    wait_for(lambda: server.metric(f"vllm:num_requests_{state}", headers=authorised()) == count)


def generated(server: ServerProcess) -> float:
    return server.metric("vllm:generation_tokens_total", headers=authorised())


def test_every_path_but_health_needs_a_key(small: ServerProcess) -> None:
    with small.http() as http:
        for path in ("/health/live", "/health/ready"):
            assert http.get(path).status_code == 200
        for path in (
            "/v1/models",
            "/v1/models/endless",
            "/openapi.json",
            "/",
            "/metrics",
            "/health",
            "/health/ready/x",
        ):
            for headers, code in [
                ({}, "missing_api_key"),
                ({"authorization": KEY}, "missing_api_key"),
                ({"authorization": "Bearer"}, "missing_api_key"),
                (authorised(OTHER), "invalid_api_key"),
                (authorised(KEY + "0"), "invalid_api_key"),
            ]:
                response = http.get(path, headers=headers)
                assert response.status_code == 401, path
                assert response.json()["error"]["code"] == code
                assert response.headers["www-authenticate"] == "Bearer"
        assert http.get("/v1/models", headers={"authorization": f"bearer {KEY}"}).status_code == 200
    assert small.openai(KEY).models.list().data[0].id == "endless"
    with pytest.raises(openai.AuthenticationError):
        small.openai("wrong").models.list()


def test_a_key_is_revoked_without_a_restart(small: ServerProcess, keys_file: Path) -> None:
    with small.http() as http:
        write(keys_file, entry(KEY), entry(OTHER))
        assert http.get("/v1/models", headers=authorised(OTHER)).status_code == 200
        write(keys_file, entry(KEY))
        assert http.get("/v1/models", headers=authorised(OTHER)).status_code == 401
        assert http.get("/v1/models", headers=authorised(KEY)).status_code == 200


def test_logs_name_the_key_by_its_id_and_hold_no_secret(small: ServerProcess) -> None:
    assert small.openai(KEY).models.list().data
    assert "ab12cd34" in {line.get("key") for line in small.events("request")}
    assert KEY not in small.log()
    assert "5" * 20 not in small.log()
    assert OTHER not in small.log()


def test_the_configured_default_limits_an_answer(small: ServerProcess) -> None:
    answer = small.openai(KEY).chat.completions.create(model="endless", messages=[{"role": "user", "content": "go"}])
    assert answer.usage is not None
    assert (answer.usage.completion_tokens, answer.choices[0].finish_reason) == (7, "length")


def test_a_full_queue_answers_429_and_when_to_come_back(small: ServerProcess) -> None:
    streams = occupy(small, 3)
    with small.http(headers=authorised()) as http:
        refused = http.post(CHAT, json=SHORT)
        assert refused.status_code == 429
        assert refused.json()["error"]["code"] == "rate_limit_exceeded"
        assert (refused.headers["retry-after"], refused.headers["x-should-retry"]) == ("1", "true")
        with pytest.raises(openai.RateLimitError):
            small.openai(KEY).chat.completions.create(**SHORT)
        # A full queue is no reason to send the service's traffic elsewhere.
        assert http.get("/health/ready").status_code == 200
    for stream in streams:
        stream.close()
    wait_until_free(small)


def test_a_key_has_limits_of_its_own_and_holds_up_no_other(small: ServerProcess, keys_file: Path) -> None:
    write(keys_file, entry(KEY), entry(OTHER, concurrency=1, requests_per_minute=3))
    with small.http(headers=authorised(OTHER)) as http:
        running = http.build_request("POST", CHAT, json={**ENDLESS, "stream": True})
        stream = http.send(running, stream=True)
        second = http.post(CHAT, json=SHORT)
        assert (second.status_code, second.headers["x-should-retry"]) == (429, "true")
        assert "limit" in second.json()["error"]["message"]
        assert http.get("/v1/models").status_code == 200
        stream.close()
        wait_until_free(small)
        # One begins every 20 s, so that a busy machine may get a fourth.
        answers = [http.post(CHAT, json=SHORT)]
        while answers[-1].status_code == 200 and len(answers) < 10:
            answers.append(http.post(CHAT, json=SHORT))
    assert [answer.status_code for answer in answers[:2]] == [200, 200]
    assert answers[-1].status_code == 429
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 20
    write(keys_file, entry(KEY))


def test_silence_is_filled_with_comments(small: ServerProcess) -> None:
    first, waiting = occupy(small, 2)
    heard = b""
    for part in waiting.iter_raw():
        heard += part
        if heard.count(b": keep-alive\n\n") >= 3 or b"data: " in heard:
            break
    assert heard.startswith(b": keep-alive\n\n: keep-alive\n\n: keep-alive")
    first.close()
    waiting.close()
    wait_until_free(small)


def test_a_stream_the_client_leaves_ends(small: ServerProcess) -> None:
    before = generated(small)
    (stream,) = occupy(small, 1)
    reading = stream.iter_raw()
    next(reading)
    wait_until(small, "running", 1)
    stream.close()
    wait_until(small, "running", 0)
    assert generated(small) < before + ENDLESS["max_tokens"], "it ended by itself"


def test_a_plain_request_the_client_leaves_ends(small: ServerProcess) -> None:
    before = generated(small)
    body = httpx2.Client().build_request("POST", "http://x" + CHAT, json=ENDLESS)
    with socket.create_connection(("127.0.0.1", small.settings["listen"]["port"])) as client:
        head = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nauthorization: Bearer {KEY}\r\n"
        client.sendall(f"{head}content-length: {len(body.content)}\r\n\r\n".encode() + body.content)
        wait_until(small, "running", 1)
    wait_until(small, "running", 0)
    assert generated(small) < before + ENDLESS["max_tokens"], "it ended by itself"
    assert 499 in {line["status"] for line in small.events("request")}


def test_requests_that_leave_while_they_wait_make_room(small: ServerProcess) -> None:
    streams = occupy(small, 3)
    streams[1].close()
    streams[2].close()
    wait_until(small, "waiting", 0)
    again = occupy(small, 2)
    assert {stream.status_code for stream in again} == {200}
    for stream in [streams[0], *again]:
        stream.close()
    wait_until_free(small)


def test_a_slow_reader_holds_up_nobody(small: ServerProcess) -> None:
    """The answer of a client that does not read is kept for it, and the engine goes on."""
    long = {**ENDLESS, "max_tokens": 1000, "temperature": 0}
    body = httpx2.Client().build_request("POST", "http://x" + CHAT, json={**long, "stream": True})
    before = generated(small)
    with socket.create_connection(("127.0.0.1", small.settings["listen"]["port"])) as client:
        head = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nauthorization: Bearer {KEY}\r\n"
        client.sendall(f"{head}content-length: {len(body.content)}\r\n\r\n".encode() + body.content)
        wait_for(lambda: generated(small) > before)
        wait_until_free(small)
        with client.makefile("rb") as answer:
            lines = list(iter(answer.readline, b"0\r\n"))
    chunks = [orjson.loads(line[6:]) for line in lines if line.startswith(b"data: {")]
    assert b"data: [DONE]\n" in lines
    with small.http(headers=authorised()) as http:
        wanted = http.post(CHAT, json=long).json()["choices"][0]["message"]["content"]
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks) == wanted


def test_the_configured_body_limit_holds(small: ServerProcess) -> None:
    with small.http(headers=authorised()) as http:
        assert http.post(CHAT, json={**SHORT, "user": "x" * 3000}).status_code == 413


def test_a_storm_of_leaving_clients_leaves_nothing_behind(small: ServerProcess) -> None:
    def leave(number: int) -> None:
        with small.http(headers=authorised()) as http:
            if number % 2:
                http.send(http.build_request("POST", CHAT, json={**ENDLESS, "stream": True}), stream=True).close()
            else:
                with contextlib.suppress(httpx2.TimeoutException):
                    http.post(CHAT, json=ENDLESS, timeout=0.05)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(leave, range(60)))
    wait_until_free(small)
    assert len(small.engine_pids()) == 1
    assert threading.active_count() < 50
