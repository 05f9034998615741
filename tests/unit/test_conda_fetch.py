"""A file is fetched by its sha256 from the first address that has it."""

from __future__ import annotations

import functools
import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.conftest import ModuleRunner

CONTENT = b"the installer"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
DEAD = "http://127.0.0.1:9/installer.sh"


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[str]:
    """A mirror with the file under `good` and other bytes under `stale`."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    (folder / "good").write_bytes(CONTENT)
    (folder / "stale").write_bytes(b"a newer installer")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def test_falls_through_to_the_address_that_has_it(tmp_path: Path, mirror: str, run_module: ModuleRunner) -> None:
    dest = tmp_path / "cache/installer.sh"
    urls = [DEAD, f"{mirror}/absent", f"{mirror}/stale", f"{mirror}/good"]
    result = run_module("bedplate_fetch", urls=urls, sha256=SHA256, dest=str(dest))
    assert result["changed"] is True
    assert dest.read_bytes() == CONTENT
    assert [reason.split(": ", 1)[0] for reason in result["refused"]] == urls[:3]
    assert "HTTP 404" in result["refused"][1]
    assert f"sha256 {hashlib.sha256(b'a newer installer').hexdigest()}" in result["refused"][2]
    assert run_module("bedplate_fetch", urls=urls, sha256=SHA256, dest=str(dest))["changed"] is False


def test_wrong_bytes_never_appear_under_the_name(tmp_path: Path, mirror: str, run_module: ModuleRunner) -> None:
    dest = tmp_path / "installer.sh"
    result = run_module("bedplate_fetch", urls=[f"{mirror}/stale"], sha256=SHA256, dest=str(dest))
    assert result["failed"] is True
    assert "sha256" in result["msg"]
    assert [path.name for path in tmp_path.iterdir()] == ["mirror"]


def test_check_mode_fetches_nothing(tmp_path: Path, mirror: str, run_module: ModuleRunner) -> None:
    dest = tmp_path / "installer.sh"
    result = run_module("bedplate_fetch", _check_mode=True, urls=[f"{mirror}/good"], sha256=SHA256, dest=str(dest))
    assert result["changed"] is True
    assert not dest.exists()
