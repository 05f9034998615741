"""The service with two models, and the Python of an environment that has other people's programs for such services."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from ops.service_env import SERVER, locked_python
from tests.app.conftest import TUTOR
from tests.app.support import tiny_models
from tests.app.support.server import ServerProcess


@pytest.fixture(scope="session")
def suites_python() -> Path:
    lock = SERVER / "requirements" / "conformance.txt"
    return locked_python("conformance", [lock], "langchain-tests, llm and lm-eval; once, a minute or two", Console())


@pytest.fixture(scope="session")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Base URL of a service with the `tutor`, which knows its answers, and `tools`, which calls functions at random."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = tmp_path_factory.mktemp("conformance")
    served = [
        {"name": "tutor", "path": str(TUTOR), "task": "chat"},
        {"name": "tools", "path": str(tiny_models.write_tool_model(folder / "tools"))},
    ]
    process = ServerProcess(folder, {"listen": {"host": "127.0.0.1", "port": port}, "models": served})
    try:
        process.wait_ready()
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.stop()


@pytest.fixture(scope="session")
def bare_environment() -> dict[str, str]:
    """Without what would point these programs elsewhere, and with no network to fall back on."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OPENAI", "LANGCHAIN", "LLM"))}
    return {**kept, "OPENAI_API_KEY": "none", "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "PYTHONPATH": ""}
