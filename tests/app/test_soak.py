"""Memory after many requests is bounded by what it was after the first ones. How many: --soak-requests, 10,000 in the slow stage."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest

from tests.app.conftest import TUTOR
from tests.app.support.server import ServerProcess
from tests.app.test_storms import PAIRS, question

# Measured over 9,000 requests: front 0, engine -6. Room between tensors of ever new shapes comes and goes.
GROWTH_MEGABYTES = 32


@pytest.fixture(scope="module")
def tutor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    models = [{"name": "tutor", "path": str(TUTOR), "task": "both", "max_batch": 8, "kv_memory_mb": 8}]
    # oneDNN keeps a kernel for each of up to 1024 shapes, which fills up over thousands of requests and then stays.
    process = ServerProcess(
        tmp_path_factory.mktemp("soak"), {"models": models}, env={"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "16"}
    )
    yield process.wait_ready()
    process.stop()


def resident(pid: int) -> float:
    """Megabytes of memory of its own that a process holds."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(("Private_", "Swap:"))) / 1024


def ask(server: ServerProcess, http: httpx2.Client, number: int) -> None:
    pair = PAIRS[number % len(PAIRS)]
    match number % 5:
        case 0:
            answer = http.post("/v1/chat/completions", json=question(pair, max_tokens=8))
            assert pair["answer"].startswith(answer.json()["choices"][0]["message"]["content"].rstrip("\ufffd"))
        case 1:
            body = question(pair, max_tokens=8, stream=True)
            with http.stream("POST", "/v1/chat/completions", json=body) as stream:
                assert b"[DONE]" in b"".join(stream.iter_raw())
        case 2:
            assert http.post("/v1/embeddings", json={"model": "tutor", "input": pair["question"]}).status_code == 200
        case 3:
            assert http.post("/v1/chat/completions", json=question(pair, temperature=9)).status_code == 400
        case 4:
            with contextlib.suppress(httpx2.TimeoutException):
                http.post("/v1/chat/completions", json=question(pair, n=2, max_tokens=64), timeout=0.05)


def test_memory_is_flat(tutor: ServerProcess, soak_requests: int) -> None:
    def run(numbers: range) -> None:
        with tutor.http() as http:
            for number in numbers:
                ask(tutor, http, number)

    processes = {"front": tutor.process.pid, "engine": tutor.engine_pid("tutor")}
    seen: list[dict[str, float]] = []
    warm = max(soak_requests // 10, 600)
    for begin, end in ((0, warm), (warm, soak_requests)):
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(run, [range(begin + part, end, 8) for part in range(8)]))
        seen.append({name: resident(pid) for name, pid in processes.items()})
    grown = {name: round(seen[1][name] - seen[0][name], 1) for name in processes}
    print(f"after {warm} requests {seen[0]}, after {soak_requests} {seen[1]}: grown by {grown} MB")
    assert max(grown.values()) < GROWTH_MEGABYTES, (seen, grown)
