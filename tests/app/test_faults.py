"""What the service does when something goes wrong or is taken away: nobody gets a wrong or a silent answer."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import openai
import orjson
import pytest

from tests.app.support.server import SERVER_CODE, ServerProcess, alive, measured, wait_for

CHAT = "/v1/chat/completions"
StartServer = Callable[..., ServerProcess]


def endless(**options: Any) -> dict[str, Any]:
    return {"model": "endless", "messages": [{"role": "user", "content": "go"}], "max_tokens": 20_000, **options}


def settings_for(models: dict[str, Path], **limits: Any) -> dict[str, Any]:
    return {"models": [{"name": "endless", "path": str(models["endless"])}], "limits": limits}


class Streams:
    """Endless streams being read in the background; `bodies` are what each got until its end."""

    def __init__(self, server: ServerProcess, count: int) -> None:
        self._pool = ThreadPoolExecutor(count)
        self._heard = [0] * count
        self.futures = [self._pool.submit(self._read, server, number) for number in range(count)]
        wait_for(lambda: min(self._heard) > 0)

    def _read(self, server: ServerProcess, number: int) -> bytes:
        body = b""
        with server.http() as http, http.stream("POST", CHAT, json=endless(stream=True)) as response:
            assert response.status_code == 200
            for part in response.iter_raw():
                body += part
                self._heard[number] = len(body)
        return body

    def bodies(self) -> list[bytes]:
        return [future.result(60) for future in self.futures]


def last_error(body: bytes) -> dict[str, Any]:
    """The error event a stream ended with."""
    events = body.strip().split(b"\n\n")
    assert events[-1] == b"data: [DONE]"
    error: dict[str, Any] = orjson.loads(events[-2].removeprefix(b"data: "))["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error


@pytest.fixture(scope="module")
def victim(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A service of two models that the tests hurt, each leaving it well again but the last."""
    served = [{"name": name, "path": str(models[name])} for name in ("endless", "llama")]
    settings = {"models": served, "limits": {"ready_age_seconds": 0.5}}
    process = ServerProcess(tmp_path_factory.mktemp("victim"), settings)
    yield process.wait_ready()
    process.stop()


def test_a_killed_engine_fails_its_requests_and_comes_back(victim: ServerProcess) -> None:
    client = victim.openai()
    hello: dict[str, Any] = {"model": "llama", "messages": [{"role": "user", "content": "hello"}], "temperature": 0}
    before = client.chat.completions.create(**hello).choices[0].message.content
    engine = victim.engine_pid("endless")
    streams = Streams(victim, 3)
    with ThreadPoolExecutor(1) as pool:
        plain = pool.submit(lambda: victim.http().post(CHAT, json=endless()))
        wait_for(lambda: victim.metric("vllm:num_requests_running") == 4)
        os.kill(engine, signal.SIGKILL)
        for body in streams.bodies():
            assert last_error(body)["code"] == "engine_error"
        assert victim.http().get("/health/ready").status_code == 503
        assert plain.result(60).status_code == 500
        assert plain.result().headers["x-should-retry"] == "true"
    # The other model never noticed, and a request that comes during the restart waits for its end.
    assert client.chat.completions.create(**hello).choices[0].message.content == before
    again = client.chat.completions.create(**endless(max_tokens=3))
    assert again.usage is not None and again.usage.completion_tokens == 3
    wait_for(lambda: victim.http().get("/health/ready").status_code == 200)
    assert engine not in victim.engine_pids()


def test_a_stuck_engine_is_not_ready(victim: ServerProcess) -> None:
    with victim.http() as http:
        for engine in victim.engine_pids():
            os.kill(engine, signal.SIGSTOP)
        time.sleep(0.6)
        stuck = http.get("/health/ready")
        assert stuck.status_code == 503
        assert stuck.json()["error"]["code"] == "not_ready"
        assert int(stuck.headers["retry-after"]) > 0
        assert http.get("/health/live").status_code == 200
        for engine in victim.engine_pids():
            os.kill(engine, signal.SIGCONT)
        wait_for(lambda: http.get("/health/ready").status_code == 200)


def test_the_official_client_sees_an_error_in_the_stream(victim: ServerProcess) -> None:
    chunks = victim.openai().chat.completions.create(**endless(stream=True))
    with pytest.raises(openai.APIError, match="ended unexpectedly"):
        for count, _ in enumerate(chunks):
            if count == 3:
                os.kill(victim.engine_pid("endless"), signal.SIGKILL)


def test_a_killed_front_takes_its_engines_along(victim: ServerProcess) -> None:
    wait_for(lambda: len(victim.engine_pids()) == 2)
    engines = victim.engine_pids()
    assert engines
    victim.process.kill()
    wait_for(lambda: not any(alive(engine) for engine in engines))


def test_an_engine_that_is_stuck_under_load_is_replaced(start_server: StartServer, models: dict[str, Path]) -> None:
    served = [{"name": name, "path": str(models[name])} for name in ("endless", "llama")]
    server = start_server({"models": served, "limits": {"stuck_seconds": 5}}).wait_ready()
    hello: dict[str, Any] = {"model": "llama", "messages": [{"role": "user", "content": "hello"}], "temperature": 0}
    before = server.openai().chat.completions.create(**hello).choices[0].message.content
    engine = server.engine_pid("endless")
    streams = Streams(server, 2)
    os.kill(engine, signal.SIGSTOP)
    assert server.openai().chat.completions.create(**hello).choices[0].message.content == before
    for body in streams.bodies():
        assert last_error(body)["code"] == "engine_error"
    assert not alive(engine)
    again = server.openai().chat.completions.create(**endless(max_tokens=3))
    assert again.usage is not None and again.usage.completion_tokens == 3
    assert [line["pid"] for line in server.events("engine stuck")] == [engine]


def test_systemds_watchdog_is_fed_by_tokens_alone(
    start_server: StartServer, models: dict[str, Path], tmp_path: Path
) -> None:
    """Every 0.5 s while idle, too; not at all once the engine makes none, though the event loop turns."""
    told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    told.bind(str(tmp_path / "notify"))

    def sign_of_life(seconds: float) -> bool:
        """Whether there is one before so many seconds of silence."""
        told.settimeout(seconds)
        try:
            while told.recv(4096) != b"WATCHDOG=1":
                pass
        except TimeoutError:
            return False
        return True

    systemd = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "1500000"}
    vanishing = tmp_path / "vanishing"
    shutil.copytree(models["endless"], vanishing)
    settings = settings_for({"endless": vanishing}, start_wait_seconds=4)
    server = start_server(settings, env=systemd).wait_ready()
    # Nobody listened while it loaded, which must not have held it up; what was said then does not count.
    told.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while told.recv(4096):
            pass
    assert all(sign_of_life(60) for _ in range(3))
    engine = server.engine_pid("endless")
    os.kill(engine, signal.SIGSTOP)
    wait_for(lambda: not sign_of_life(3))
    assert server.http().get("/health/live").status_code == 200
    os.kill(engine, signal.SIGCONT)
    assert all(sign_of_life(60) for _ in range(2))
    # Nor while engines are started again and again, but none comes to work.
    (vanishing / "model.safetensors").unlink()
    os.kill(engine, signal.SIGKILL)
    killed = last = time.monotonic()
    while len(server.events("engine ended")) < 4:
        if sign_of_life(0.2):
            last = time.monotonic()
    assert last - killed < 6
    told.close()


def test_sigterm_ends_what_takes_too_long_with_an_error(start_server: StartServer, models: dict[str, Path]) -> None:
    server = start_server(settings_for(models, drain_seconds=1)).wait_ready()
    streams = Streams(server, 2)
    with ThreadPoolExecutor(1) as pool:
        plain = pool.submit(lambda: server.http().post(CHAT, json=endless()))
        wait_for(lambda: server.metric("vllm:num_requests_running") == 3)
        started = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        for body in streams.bodies():
            assert last_error(body)["code"] == "server_shutting_down"
        assert plain.result(60).status_code == 503
        assert plain.result().json()["error"]["code"] == "server_shutting_down"
    assert server.process.wait(60) == 0
    assert time.monotonic() - started > 0.9


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_while_loading_ends_the_service_at_once(
    start_server: StartServer, models: dict[str, Path], number: signal.Signals
) -> None:
    server = start_server(settings_for(models))
    wait_for(lambda: server.socket.exists() and bool(server.engine_pids()))
    server.process.send_signal(number)
    assert server.process.wait(60) == 0


def test_under_systemd_a_restart_loses_nothing(models: dict[str, Path], tmp_path: Path) -> None:
    """As systemd does it: the socket is passed as fd 3, READY=1 comes after the first token, SIGTERM lets answers end.

    A request from before the first token is answered; one from after SIGTERM waits in the socket, which stays.
    """
    told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    told.bind(str(tmp_path / "notify"))
    told.settimeout(60)
    path = tmp_path / "service.sock"
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    listener.listen(100)
    (tmp_path / "c.yml").write_bytes(
        orjson.dumps({**settings_for(models, drain_seconds=60), "listen": {"fd": 3}, "threads": 1})
    )
    # exec keeps the process id, which LISTEN_PID must name.
    run = f"exec 3<&{listener.fileno()}; export LISTEN_PID=$$; exec {sys.executable} -m bedplate_server --config c.yml"
    systemd = {"PYTHONPATH": str(SERVER_CODE), "LISTEN_FDS": "1", "NOTIFY_SOCKET": str(tmp_path / "notify")}
    process = subprocess.Popen(
        ["bash", "-c", run],
        cwd=tmp_path,
        pass_fds=[listener.fileno()],
        env={**os.environ, **systemd},
        stderr=subprocess.DEVNULL,
    )

    def client() -> httpx2.Client:
        return httpx2.Client(base_url="http://x", transport=httpx2.HTTPTransport(uds=str(path)), timeout=120)

    def post(**options: Any) -> httpx2.Response:
        with client() as http:
            return http.post(CHAT, json=endless(**options))

    def asked() -> float:
        """How many requests run or are done."""
        with client() as http:
            seen = http.get("/metrics").text
        return measured(seen, "vllm:num_requests_running") + measured(seen, "vllm:request_success_total")

    try:
        assert post(max_tokens=2).status_code == 200
        messages = ""
        while "READY=1" not in messages:
            messages += told.recv(4096).decode() + "\n"
        assert "STATUS=Loading endless" in messages.partition("READY=1")[0]
        with ThreadPoolExecutor(2) as pool:
            answers = [pool.submit(post, max_tokens=600) for _ in range(2)]
            wait_for(lambda: asked() == 3)
            process.send_signal(signal.SIGTERM)
            while "STOPPING=1" not in messages:
                messages += told.recv(4096).decode() + "\n"
            for answer in answers:
                assert answer.result().json()["usage"]["completion_tokens"] == 600
        assert process.wait(60) == 0
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as next_client:
            assert next_client.connect_ex(str(path)) == 0
    finally:
        process.kill()
        process.wait()
        told.close()
        listener.close()
