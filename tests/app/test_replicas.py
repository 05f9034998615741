"""Several engines of one model: they share the work, and the end of one is its own requests' end alone."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from bedplate_server.config import Config
from bedplate_server.engine import loading

from tests.app.support.server import ServerProcess, wait_for
from tests.app.test_faults import Streams, endless, last_error
from tests.app.test_metrics import scraped

HELLO = [{"role": "user", "content": "hello"}]


@pytest.fixture(scope="module")
def pair(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    served = [{"name": "endless", "path": str(models["endless"]), "devices": ["cpu", "cpu"], "max_batch": 8}]
    process = ServerProcess(tmp_path_factory.mktemp("pair"), {"models": served, "limits": {"ready_age_seconds": 60}})
    process.wait_ready()
    # It answers from the first one on.
    wait_for(lambda: process.metric("bedplate:engine_starts_total") == 2)
    yield process
    process.stop()


def test_requests_are_shared_and_answered_alike(pair: ServerProcess) -> None:
    assert len(pair.engine_pids()) == 2
    assert pair.http().get("/v1/models").json()["data"][0]["id"] == "endless"
    streams = Streams(pair, 4)  # the least there is to do is at the other engine, every time
    with ThreadPoolExecutor(8) as pool:

        def text(number: int) -> str | None:
            client = pair.openai()
            answer = client.chat.completions.create(**endless(messages=HELLO, max_tokens=20, temperature=0))
            return answer.choices[0].message.content

        assert len(set(pool.map(text, range(24)))) == 1
    seen = scraped(pair)
    running = [seen[f"vllm:num_requests_running/endless/{engine}"] for engine in (0, 1)]
    assert running == [2, 2]
    assert all(seen[f"vllm:request_success_total/endless/{engine}/length"] > 0 for engine in (0, 1))
    assert sum(seen[f"vllm:request_success_total/endless/{engine}/length"] for engine in (0, 1)) == 24
    os.kill(pair.engine_pids()[0], signal.SIGKILL)
    os.kill(pair.engine_pids()[-1], signal.SIGKILL)
    assert all(last_error(body)["code"] == "engine_error" for body in streams.bodies())
    wait_for(lambda: pair.metric("bedplate:engine_starts_total") == 4)


def test_an_engine_that_dies_takes_its_own_requests_alone(pair: ServerProcess) -> None:
    wait_for(lambda: len(pair.engine_pids()) == 2 and pair.metric("bedplate:engine_starts_total") == 4)
    streams = Streams(pair, 4)
    wait_for(lambda: pair.metric("vllm:num_requests_running") == 4)
    victim, *_ = pair.engine_pids()
    os.kill(victim, signal.SIGKILL)
    wait_for(lambda: sum(future.done() for future in streams.futures) == 2)
    ended = [future.result() for future in streams.futures if future.done()]
    assert [last_error(body)["code"] for body in ended] == ["engine_error"] * 2
    # While it is started again the other one answers, and the model counts as ready.
    assert pair.http().get("/health/ready").status_code == 200
    answer = pair.openai().chat.completions.create(**endless(messages=HELLO, max_tokens=3))
    assert answer.usage is not None and answer.usage.completion_tokens == 3
    wait_for(lambda: pair.metric("bedplate:engine_starts_total") == 5)
    assert victim not in pair.engine_pids() and len(pair.engine_pids()) == 2
    for engine in pair.engine_pids():
        os.kill(engine, signal.SIGKILL)
    assert len(streams.bodies()) == 4


def test_engines_get_a_device_and_their_share_of_the_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(13)))

    def settled(**model: object) -> tuple[list[str], int]:
        config = Config.model_validate({"models": [{"name": "m", "path": "/m", **model}]})
        return config.models[0].devices_of_engines, config.threads_per_engine

    assert settled() == (["auto"], 12)
    assert settled(replicas=3) == (["auto:0", "auto:1", "auto:2"], 4)
    assert settled(replicas=2, device="cuda") == (["cuda:0", "cuda:1"], 6)
    assert settled(replicas=4, device="cpu") == (["cpu"] * 4, 3)
    assert settled(devices=["cuda:3", "cuda:1"]) == (["cuda:3", "cuda:1"], 6)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [str(loading.device_named(f"auto:{number}")) for number in range(3)] == ["cuda:0", "cuda:1", "cuda:0"]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert str(loading.device_named("auto:1")) == "cpu"
