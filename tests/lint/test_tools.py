"""The linters' verdicts, one test each."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
SERVICE_PYTHON = ROOT / ".bedplate" / "envs" / "service-tests" / "bin" / "python"

# The longest first: they run side by side.
CHECKS = {
    "mypy (service)": ["mypy", "--python-executable", str(SERVICE_PYTHON), "app/server/bedplate_server"],
    "ansible-lint": ["ansible-lint", "--offline", "--strict"],
    "ruff check": ["ruff", "check", "."],
    "ruff format": ["ruff", "format", "--check", "."],
    "yamllint": ["yamllint", "--strict", "."],
    "mypy (operations, plugins)": [
        "mypy",
        "ops",
        "plugins/module_utils",
        "plugins/filter",
        "fabfile.py",
        "tests/fixtures",
    ],
}
Verdict = subprocess.CompletedProcess[str]


def run(command: list[str]) -> Verdict:
    return subprocess.run([BIN / command[0], *command[1:]], cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def verdicts() -> Iterator[dict[str, Future[Verdict]]]:
    """By linter; as many run at a time as there are CPUs. Those that no test has asked for are not begun any more at the end."""
    pool = ThreadPoolExecutor(os.cpu_count())
    yield {name: pool.submit(run, command) for name, command in CHECKS.items()}
    pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("name", CHECKS)
def test_linter_finds_nothing(name: str, verdicts: dict[str, Future[Verdict]]) -> None:
    done = verdicts[name].result()
    assert done.returncode == 0, f"{' '.join(CHECKS[name])}\n{done.stdout[-6000:]}\n{done.stderr[-3000:]}"


@pytest.mark.parametrize(
    "script", ["bedplate", "playbooks/files/sandbox.sh", ".ci/run", "tests/fixtures/hosts/record.sh"]
)
def test_shell_script_parses(script: str) -> None:
    shell = "bash" if "bash" in (ROOT / script).read_text().splitlines()[0] else "sh"
    done = subprocess.run([shell, "-n", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
