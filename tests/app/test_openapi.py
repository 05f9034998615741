"""The service against its own description: whatever requests schemathesis makes up of it, none is answered with a 5xx."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.app.conftest import StartServer

# More with `./bedplate test --all`.
EXAMPLES = os.environ.get("BEDPLATE_OPENAPI_EXAMPLES", "6")
PATHS = [
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/rerank",
    "/tokenize",
    "/detokenize",
    "/v1/models",
    "/v1/models/{name}",
]


@pytest.fixture
def address(start_server: StartServer, models: dict[str, Path], free_port: int) -> str:
    served = [{"name": "llama", "path": str(models["tools"]), "context_length": 128, "max_batch": 8}]
    listen = {"host": "127.0.0.1", "port": free_port}
    start_server({"listen": listen, "models": served}).wait_ready()
    return f"http://127.0.0.1:{free_port}"


def test_no_request_made_up_from_the_description_is_a_server_error(address: str) -> None:
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{address}/openapi.json", "--no-color"]
    command += ["--checks", "not_a_server_error", "--max-examples", EXAMPLES, "--phases", "examples,coverage,fuzzing"]
    command += ["--seed", "1", "--generation-database", "none", "--request-timeout", "60"]
    command += [word for path in PATHS for word in ("--include-path", path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    made = re.search(r"(\d+) generated", done.stdout)
    assert made is not None and int(made[1]) > 100, done.stdout[-2000:]
