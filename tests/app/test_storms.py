"""Many clients at once, half of them rude: everybody else's answer is whole and right, and nothing is left behind."""

from __future__ import annotations

import contextlib
import random
import resource
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest
import yaml

from tests.app.conftest import TUTOR
from tests.app.support.server import ServerProcess, wait_for
from tests.app.test_faults import CHAT, StartServer, Streams, endless, settings_for

PAIRS: list[dict[str, Any]] = yaml.safe_load((TUTOR / "qa.yml").read_text(encoding="utf-8"))
STREAMS = 1000


@pytest.fixture(scope="module")
def tutor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    models = [{"name": "tutor", "path": str(TUTOR), "task": "both"}]
    process = ServerProcess(tmp_path_factory.mktemp("tutor"), {"models": models})
    yield process.wait_ready()
    process.stop()


def question(pair: dict[str, Any], **options: Any) -> dict[str, Any]:
    asked = [{"role": "user", "content": pair["question"]}]
    return {"model": "tutor", "messages": asked, "temperature": 0, "max_tokens": 200, **options}


def plain(server: ServerProcess, pair: dict[str, Any]) -> set[str]:
    return {
        choice.message.content or "" for choice in server.openai().chat.completions.create(**question(pair)).choices
    }


def streamed(server: ServerProcess, pair: dict[str, Any]) -> set[str]:
    chunks = server.openai().chat.completions.create(**question(pair, stream=True))
    return {"".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)}


def three(server: ServerProcess, pair: dict[str, Any]) -> set[str]:
    choices = server.openai().chat.completions.create(**question(pair, n=3)).choices
    assert len(choices) == 3
    return {choice.message.content or "" for choice in choices}


def same_id(server: ServerProcess, pair: dict[str, Any]) -> set[str]:
    client = server.openai(default_headers={"x-request-id": "the-same-for-all"})
    return {client.chat.completions.create(**question(pair)).choices[0].message.content or ""}


def rude(server: ServerProcess, number: int) -> None:
    """One request that is wrong, or whose client does not stay."""
    pair = PAIRS[number % len(PAIRS)]
    wrong: list[tuple[str, Any, int]] = [
        (CHAT, question(pair, n=10_000), 400),
        (CHAT, question({"question": "long " * 20_000}), 400),
        (CHAT, {**question(pair), "messages": []}, 400),
        ("/v1/completions", {"model": "tutor", "prompt": []}, 400),
        ("/v1/completions", {"model": "tutor", "prompt": [10**9]}, 400),
        ("/v1/completions", {"model": "tutor", "prompt": [-1]}, 400),
        ("/v1/embeddings", {"model": "tutor", "input": ""}, 400),
        (CHAT, question(pair, logit_bias={"99999999": 1}), 400),
    ]
    with server.http() as http:
        match number % 4:
            case 0:
                path, body, status = wrong[number // 4 % len(wrong)]
                answer = http.post(path, json=body)
                assert answer.status_code == status, (path, answer.text)
                assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
            case 1:
                broken = orjson.dumps(question(pair)).replace(b'"user"', b'"user\xff\xfe"')
                answer = http.post(CHAT, content=broken, headers={"content-type": "application/json"})
                assert answer.status_code == 400, answer.text
            case 2:
                with contextlib.suppress(httpx2.TimeoutException):
                    http.post(CHAT, json=question(pair, temperature=2, max_tokens=400), timeout=0.2)
            case 3:
                request = http.build_request("POST", CHAT, json=question(pair, temperature=2, stream=True))
                http.send(request, stream=True).close()


def test_sixty_four_exact_answers_in_a_storm_of_rude_clients(tutor: ServerProcess) -> None:
    ways: list[Callable[[ServerProcess, dict[str, Any]], set[str]]] = [plain, streamed, three, same_id]
    asked = [(ways[number % 4], PAIRS[number % len(PAIRS)]) for number in range(64)]
    random.Random(3).shuffle(asked)
    with ThreadPoolExecutor(64) as polite, ThreadPoolExecutor(12) as others:
        storm = [others.submit(rude, tutor, number) for number in range(96)]
        given = list(polite.map(lambda one: one[0](tutor, one[1]), asked))
        for one in storm:
            one.result(120)
    wrong = [
        (way.__name__, pair["id"]) for (way, pair), texts in zip(asked, given, strict=True) if texts != {pair["answer"]}
    ]
    assert wrong == []
    assert len(tutor.engine_pids()) == 1
    assert not tutor.events("engine ended")


def test_a_text_with_half_a_character_harms_nobody(tutor: ServerProcess) -> None:
    """JSON can name half of a surrogate pair, which is no text."""
    body = orjson.dumps(question(PAIRS[0])).replace(b"Bedplate", b"\\ud83d")
    answer = tutor.http().post(CHAT, content=body, headers={"content-type": "application/json"})
    assert answer.status_code in (200, 400), answer.text
    assert plain(tutor, PAIRS[0]) == {PAIRS[0]["answer"]}


def test_a_thousand_streams_wait_and_leave_while_others_are_served(
    start_server: StartServer, models: dict[str, Path]
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4 * STREAMS)), hard))
    served = [
        {"name": "endless", "path": str(models["endless"]), "max_batch": 1},
        {"name": "llama", "path": str(models["llama"])},
    ]
    limits = {"max_queue": STREAMS, "max_queue_tokens": 10**9, "keepalive_seconds": 1}
    server = start_server({"models": served, "limits": limits}).wait_ready()
    hello: dict[str, Any] = {"model": "llama", "messages": [{"role": "user", "content": "hello"}], "temperature": 0}
    before = server.openai().chat.completions.create(**hello).choices[0].message.content
    content = orjson.dumps(endless(stream=True))
    head = (
        f"POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(content)}\r\n\r\n"
    )
    with contextlib.ExitStack() as opened:
        streams = [opened.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(STREAMS)]
        for stream in streams:
            stream.connect(str(server.socket))
            stream.sendall(head.encode() + content)
        for stream in streams:
            stream.settimeout(60)
            assert stream.recv(15) == b"HTTP/1.1 200 OK", "a place in the queue"
        assert server.metric("vllm:num_requests_waiting") > 0.9 * STREAMS
        assert server.openai().chat.completions.create(**hello).choices[0].message.content == before
        with streams[-1].makefile("rb") as last:
            assert any(b": keep-alive" in line for line in last)
    # All of them have gone at once; the next request gets the slot.
    again = server.openai().chat.completions.create(**endless(max_tokens=2))
    assert again.usage is not None and again.usage.completion_tokens == 2
    wait_for(lambda: server.metric("vllm:num_requests_waiting") == 0)


def test_kill_9_of_the_front_ends_no_stream_as_if_it_were_whole(
    start_server: StartServer, models: dict[str, Path]
) -> None:
    server = start_server(settings_for(models)).wait_ready()
    engine = server.engine_pid("endless")
    streams = Streams(server, 3)
    server.process.kill()
    for future in streams.futures:
        with pytest.raises(httpx2.TransportError):
            future.result(60)
    wait_for(lambda: not Path(f"/proc/{engine}").exists())
    # The next one takes the socket's place and serves.
    settings = {**settings_for(models), "listen": {"uds": str(server.socket)}}
    follower = start_server(settings)
    follower.socket = server.socket
    follower.wait_ready()
    again = follower.openai().chat.completions.create(**endless(max_tokens=2))
    assert again.usage is not None and again.usage.completion_tokens == 2
