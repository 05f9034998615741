"""The linters' verdicts, one test each."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
SERVICE_PYTHON = ROOT / ".bedplate" / "envs" / "service-tests" / "bin" / "python"

CHECKS = {
    "ruff check": ["ruff", "check", "."],
    "ruff format": ["ruff", "format", "--check", "."],
    "yamllint": ["yamllint", "--strict", "."],
    "ansible-lint": ["ansible-lint", "--offline", "--strict"],
    "mypy (operations, plugins)": [
        "mypy",
        "ops",
        "plugins/module_utils",
        "plugins/filter",
        "fabfile.py",
        "tests/fixtures",
    ],
    "mypy (service)": ["mypy", "--python-executable", str(SERVICE_PYTHON), "app/server/bedplate_server"],
}


@pytest.mark.parametrize("name", CHECKS)
def test_linter_finds_nothing(name: str) -> None:
    command = CHECKS[name]
    done = subprocess.run([BIN / command[0], *command[1:]], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-6000:]}\n{done.stderr[-3000:]}"


@pytest.mark.parametrize(
    "script", ["bedplate", "playbooks/files/sandbox.sh", ".ci/run", "tests/fixtures/hosts/record.sh"]
)
def test_shell_script_parses(script: str) -> None:
    shell = "bash" if "bash" in (ROOT / script).read_text().splitlines()[0] else "sh"
    done = subprocess.run([shell, "-n", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
