"""What ran before comes back whole: files, links and receipt, whatever was interrupted. systemd and the service are stand-ins."""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from tests.unit.conftest import ModuleRunner

# systemctl that notes what it was told; every restart is another invocation. A unit that says "broken" does not start.
SYSTEMCTL = """#!/bin/sh
echo "$*" >> {home}/systemctl.log
case "$1 $2" in
  "restart bedplate-inference.service") wc -l < {home}/systemctl.log > {home}/invocation; ! grep -q broken {home}/unit.service ;;
  "show --property") cat {home}/invocation ;;
esac
"""


class Server:
    """A server's files, and a service whose answer to /health/ready follows from its unit."""

    def __init__(self, home: Path, run: ModuleRunner) -> None:
        self.home, self._run = home, run
        for name in ("a", "b"):
            (home / f"envs/inference-{name}").mkdir(parents=True)
            (home / f"releases/{name}").mkdir(parents=True)
            (home / f"releases/{name}/manifest.json").touch()
            stamp = {"torch": f"2.{name}", "variant": f"cu{name}", "proof": {"python": "3.11.9"}}
            (home / f"envs/inference-{name}/.bedplate-stamp.json").write_text(json.dumps(stamp))
        self.arguments = {
            "folder": str(home / "generations"),
            "stamp_file": str(home / "stamps/inference"),
            "socket": str(home / "service.sock"),
            "receipt": str(home / "receipt.json"),
            "patience": 1,
        }

    def install(self, name: str, unit: str = "fine") -> None:
        """What a run has written when it starts the service: release and environment `name`."""
        for link, target in {"envs/inference": f"inference-{name}", "current": f"releases/{name}"}.items():
            (self.home / link).unlink(missing_ok=True)
            (self.home / link).symlink_to(target)
        (self.home / "unit.service").write_text(f"{name} {unit}")
        (self.home / "config.yml").write_text(name)

    def prove(self, name: str) -> dict[str, Any]:
        links = {"environment": str(self.home / "envs/inference"), "release": str(self.home / "current")}
        files = [str(self.home / "config.yml"), str(self.home / "unit.service")]
        sections = {"inference": {"environment": f"inference-{name}"}}
        (self.home / "invocation").write_text(f"start of {name}")
        return self._run(
            "bedplate_generation",
            state="kept", stamp=name, files=files, links=links, sections=sections, **self.arguments,
        )  # fmt: skip

    def restore(self, **arguments: Any) -> dict[str, Any]:
        return self._run("bedplate_generation", state="restored", **{**self.arguments, **arguments})

    @property
    def runs(self) -> tuple[str, ...]:
        """Environment, release, unit and configuration on the disk, and the stamp."""
        links = [(self.home / link).readlink().name for link in ("envs/inference", "current")]
        stamp = self.home / "stamps/inference"
        texts = [(self.home / name).read_text() for name in ("unit.service", "config.yml")]
        return (*links, *texts, stamp.read_text().strip() if stamp.exists() else "")

    @property
    def restarts(self) -> int:
        log = self.home / "systemctl.log"
        return log.read_text().count("restart bedplate-inference.service") if log.exists() else 0


def answers(home: Path) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(503 if "mute" in (home / "unit.service").read_text() else 200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

        def address_string(self) -> str:
            return "unix"

    return Handler


@pytest.fixture
def server(tmp_path: Path, run_module: ModuleRunner, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/systemctl").write_text(SYSTEMCTL.format(home=tmp_path))
    (tmp_path / "bin/systemctl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    with socketserver.ThreadingUnixStreamServer(str(tmp_path / "service.sock"), answers(tmp_path)) as listener:
        threading.Thread(target=listener.serve_forever, daemon=True).start()
        yield Server(tmp_path, run_module)
        listener.shutdown()


@pytest.fixture
def upgraded(server: Server) -> Server:
    """a was proven, then b."""
    for name in ("a", "b"):
        server.install(name)
        assert server.prove(name)["changed"]
    return server


A, B = ("inference-a", "a", "a fine", "a", "a"), ("inference-b", "b", "b fine", "b", "b")


def test_a_proof_twice_changes_nothing(server: Server) -> None:
    server.install("a")
    assert server.prove("a")["changed"]
    assert not server.prove("a")["changed"]


def test_a_failed_start_puts_back_what_was_proven_last(upgraded: Server) -> None:
    upgraded.install("a", "broken")
    (upgraded.home / "invocation").write_text("start of the broken one")
    found = upgraded.restore(stamp="c", why="BP603 did not start")
    assert (found["outcome"], upgraded.runs, upgraded.restarts) == ("restored", B, 1)
    receipt = json.loads((upgraded.home / "receipt.json").read_text())
    assert receipt["inference"]["environment"] == "inference-b"
    assert receipt["inference"]["rolled_back"]["why"] == "BP603 did not start"
    # And the way further back is still open.
    assert upgraded.restore(generation="previous")["outcome"] == "restored"
    assert upgraded.runs == A


def test_a_service_that_was_not_stopped_is_left_alone(upgraded: Server) -> None:
    upgraded.install("a", "never loaded")
    found = upgraded.restore(stamp="c")
    assert (found["outcome"], upgraded.runs, upgraded.restarts) == ("untouched", B, 0)


@pytest.mark.parametrize("proven", [[], ["a"]], ids=["nothing proven", "the failed state itself"])
def test_nothing_is_put_back_where_nothing_else_ran(server: Server, proven: list[str]) -> None:
    server.install("a")
    for name in proven:
        server.prove(name)
    before = (server.home / "unit.service").read_text()
    assert server.restore(stamp="a")["outcome"] == "none"
    assert (server.home / "unit.service").read_text() == before and server.restarts == 0


def test_rollback_goes_back_once_and_not_back_and_forth(upgraded: Server) -> None:
    found = upgraded.restore(generation="previous", why="asked")
    assert (found["outcome"], upgraded.runs, upgraded.restarts) == ("restored", A, 1)
    assert found["to"] == {
        "environment": "inference-a", "release": "a", "torch": "2.a", "variant": "cua", "python": "3.11.9",
    }  # fmt: skip
    assert found["from"]["environment"] == "inference-b"
    again = upgraded.restore(generation="previous")
    assert (again["outcome"], upgraded.runs, upgraded.restarts) == ("none", A, 1)


def test_after_going_forward_again_there_is_a_way_back_again(upgraded: Server) -> None:
    upgraded.restore(generation="previous")
    upgraded.install("b")
    upgraded.prove("b")
    assert upgraded.restore(generation="previous")["outcome"] == "restored"
    assert upgraded.runs == A


def test_a_changed_configuration_is_no_generation_of_its_own(upgraded: Server) -> None:
    (upgraded.home / "config.yml").write_text("b with a longer queue")
    upgraded.prove("b2")
    assert upgraded.restore(generation="previous")["outcome"] == "restored"
    assert upgraded.runs == A


def test_an_environment_that_was_removed_is_not_gone_back_to(upgraded: Server) -> None:
    (upgraded.home / "envs/inference-a/.bedplate-stamp.json").unlink()
    found = upgraded.restore(generation="previous")
    assert found["outcome"] == "gone" and "inference-a" in found["said"]
    assert (upgraded.runs, upgraded.restarts) == (B, 0)


@pytest.mark.parametrize("trouble", ["broken", "mute"])
def test_a_former_state_that_does_not_answer_is_left_again(server: Server, trouble: str) -> None:
    server.install("a", trouble)
    server.prove("a")
    server.install("b")
    server.prove("b")
    found = server.restore(generation="previous")
    assert (found["outcome"], server.runs, server.restarts) == ("returned", B, 2)


def test_a_killed_rollback_is_simply_run_again(upgraded: Server) -> None:
    (upgraded.home / "stamps/inference").unlink()
    (upgraded.home / "unit.service").write_text("a fine")
    assert upgraded.restore(generation="previous")["outcome"] == "restored"
    assert upgraded.runs == A


def test_check_mode_says_it_and_does_nothing(upgraded: Server) -> None:
    found = upgraded.restore(generation="previous", _check_mode=True)
    assert found["changed"] and found["outcome"] == "restored"
    assert (upgraded.runs, upgraded.restarts) == (B, 0)


def test_generations_are_for_root_alone(upgraded: Server) -> None:
    folder = upgraded.home / "generations"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
