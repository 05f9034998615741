"""Requests made up from the service's own description."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
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


def requests_without_server_error(address: str, model: str, phases: str, examples: int) -> int:
    """How many schemathesis made of /openapi.json, mostly for `model`; AssertionError with its report if one was answered with a 5xx."""
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{address}/openapi.json", "--no-color"]
    command += ["--checks", "not_a_server_error", "--max-examples", str(examples), "--phases", phases]
    command += ["--seed", "1", "--generation-database", "none", "--request-timeout", "60"]
    command += [word for path in PATHS for word in ("--include-path", path)]
    hooks = {"SCHEMATHESIS_HOOKS": "tests.app.support.schemathesis_hooks", "BEDPLATE_MODEL": model}
    environment = {**os.environ, **hooks, "PYTHONPATH": str(ROOT)}
    with tempfile.TemporaryDirectory() as folder:  # it keeps its findings where it runs
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=1800, check=False
        )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    made = re.search(r"(\d+) generated", done.stdout)
    assert made is not None, done.stdout[-2000:]
    return int(made[1])
