"""Wheels are installed by uv from where the server's pip would look, then from the wheel index; passwords stay out of sight."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.unit.conftest import ModuleRunner

# A stand-in for uv at the edge of the machine: keeps what it was given and succeeds once it sees the wheel index.
UV = """#!/bin/sh
for lock; do :; done
cat "$lock" > {record}
echo "$@" > {record}.args
env > {record}.env
grep -q torch.example "$lock" && exit 0
echo "error: no wheel at https://user:secret@mirror.example/simple" >&2
exit 1
"""


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Arguments for a server whose pip is configured with a password, and an environment fresh from conda."""
    config = tmp_path / "pip.conf"
    config.write_text("[global]\nindex-url = https://user:secret@mirror.example/simple\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(config))
    monkeypatch.setenv("UV_INDEX", "https://leak.example/simple")
    for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL", "PIP_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    uv = tmp_path / "uv"
    uv.write_text(UV.format(record=tmp_path / "lock"))
    uv.chmod(0o755)
    prefix = tmp_path / "env"
    prefix.mkdir()
    (prefix / ".bedplate-conda.json").write_text("{}")
    return {
        "uv": str(uv),
        "prefix": str(prefix),
        "requirements": "torch==1 --hash=sha256:aa\n",
        "cache": str(tmp_path / "cache"),
        "guard": str(tmp_path / "guard"),
    }


def test_falls_through_to_the_wheel_index(tmp_path: Path, server: dict[str, Any], run_module: ModuleRunner) -> None:
    result = run_module("bedplate_wheels", **server, wheel_index="https://torch.example/whl/cpu")
    assert result["changed"] is True
    assert result["source"] == "wheel index"
    lock = (tmp_path / "lock").read_text().splitlines()
    assert lock[0] == "--index-url https://user:secret@mirror.example/simple"
    assert "--extra-index-url https://torch.example/whl/cpu" in lock
    assert lock[-1] == "torch==1 --hash=sha256:aa"


def test_passwords_are_neither_arguments_nor_printed(
    tmp_path: Path, server: dict[str, Any], run_module: ModuleRunner
) -> None:
    result = run_module("bedplate_wheels", **server)
    assert result["failed"] is True
    assert "https://user:***@mirror.example" in result["msg"]
    assert "secret" not in result["msg"] + (tmp_path / "lock.args").read_text() + (tmp_path / "lock.env").read_text()


def test_an_environment_in_work_is_no_longer_fresh(
    tmp_path: Path, server: dict[str, Any], run_module: ModuleRunner
) -> None:
    run_module("bedplate_wheels", **server)
    assert not (tmp_path / "env/.bedplate-conda.json").exists()


def test_uv_takes_nothing_from_the_servers_shell(
    tmp_path: Path, server: dict[str, Any], run_module: ModuleRunner
) -> None:
    run_module("bedplate_wheels", **server)
    environ = (tmp_path / "lock.env").read_text()
    assert "leak.example" not in environ
    assert "UV_PYTHON_DOWNLOADS=never" in environ
    assert f"UV_CACHE_DIR={tmp_path / 'cache'}" in environ


def test_check_mode_runs_nothing(tmp_path: Path, server: dict[str, Any], run_module: ModuleRunner) -> None:
    assert run_module("bedplate_wheels", _check_mode=True, **server)["changed"] is True
    assert not (tmp_path / "lock").exists()
    assert (tmp_path / "env/.bedplate-conda.json").exists()
