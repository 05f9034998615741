"""The application probe answers on a bare host, and does not wake what sleeps."""

from __future__ import annotations

import hashlib
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.unit.conftest import ModuleRunner


@pytest.fixture
def bare(tmp_path: Path) -> dict[str, Any]:
    return {
        "packages": ["bedplate-no-such-package"],
        "units": ["bedplate-no-such-unit.service"],
        "files": [str(tmp_path / "absent")],
        "trees": [str(tmp_path / "models")],
        "stamps": str(tmp_path / "stamps"),
        "certificate": str(tmp_path / "server.pem"),
        "service": "bedplate-no-such-unit.service",
        "socket": str(tmp_path / "inference.sock"),
        "user": "bedplate-no-such-user",
        "disk_path": str(tmp_path / "opt" / "bedplate"),
    }


def test_a_bare_host_has_nothing_and_no_error(bare: dict[str, Any], run_module: ModuleRunner) -> None:
    probe = run_module("bedplate_app_probe", **bare)["probe"]
    assert probe["packages"] == {"bedplate-no-such-package": None}
    assert probe["files"] == {bare["files"][0]: None}
    assert probe["trees"] == {bare["trees"][0]: {"whole": [], "links": {}}}
    assert probe["stamps"] == {} and probe["certificate"] is None
    assert probe["user"] is False and probe["ready"] is False
    assert probe["disk_free_bytes"] > 0


def test_a_socket_of_a_stopped_service_is_not_touched(bare: dict[str, Any], run_module: ModuleRunner) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(bare["socket"])
        listener.listen()
        listener.setblocking(False)
        assert run_module("bedplate_app_probe", **bare)["probe"]["ready"] is False
        with pytest.raises(BlockingIOError):
            listener.accept()


def test_files_are_told_by_content_mode_and_owner(tmp_path: Path, run_module: ModuleRunner) -> None:
    path = tmp_path / "keys.yml"
    path.write_text("keys: []\n")
    path.chmod(0o640)
    state = run_module("bedplate_app_probe", files=[str(path)])["probe"]["files"][str(path)]
    assert state["sha256"] == hashlib.sha256(b"keys: []\n").hexdigest() and state["mode"] == "0640"


def test_stamps_and_links_are_read(tmp_path: Path, run_module: ModuleRunner) -> None:
    (tmp_path / "stamps").mkdir()
    (tmp_path / "stamps" / "nginx").write_text("abc def\n")
    (tmp_path / "envs" / "inference-0123").mkdir(parents=True)
    (tmp_path / "envs" / "inference").symlink_to("inference-0123")
    probe = run_module("bedplate_app_probe", stamps=str(tmp_path / "stamps"), trees=[str(tmp_path / "envs")])["probe"]
    assert probe["stamps"] == {"nginx": "abc def"}
    assert probe["trees"][str(tmp_path / "envs")] == {"whole": [], "links": {"inference": "inference-0123"}}


def test_a_port_is_told_with_its_program(run_module: ModuleRunner) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        found = run_module("bedplate_app_probe")["probe"]["listeners"]
    name = Path(f"/proc/{os.getpid()}/comm").read_text().strip()
    assert {"port": port, "process": name} in found
