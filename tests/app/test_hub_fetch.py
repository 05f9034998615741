"""Models come from a Hub by its real client, proven against its hashes; the token goes to the Hub and nowhere else."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.hub.server import Hub, Repository

ROOT = Path(__file__).resolve().parents[2]
FETCH = ROOT / "plugins" / "module_utils" / "bedplate" / "hub_fetch.py"
TOKEN = "hf_only_for_this_test"


@pytest.fixture
def files(tmp_path: Path) -> dict[str, bytes]:
    return {
        "config.json": b'{"model_type": "llama"}',
        "sub/notes.txt": b"hello",
        "model.safetensors": bytes(range(256)) * 999,
    }


@pytest.fixture
def hub(tmp_path: Path, files: dict[str, bytes]) -> Iterator[Hub]:
    source = tmp_path / "source"
    for name, data in files.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(data)
    with Hub({"acme/tiny": Repository(source), "acme/gated": Repository(source, token=TOKEN)}) as running:
        yield running


def ask(hub: Hub, **request: Any) -> dict[str, Any]:
    """hub_fetch as the module runs it: a program of its own, the request and its token on standard input."""
    whole = {"endpoint": hub.url, "token": "", "repo": "acme/tiny", "revision": "main", **request}
    done = subprocess.run(
        [sys.executable, "-I", FETCH], input=json.dumps(whole), capture_output=True, text=True, check=False
    )
    answer: dict[str, Any] = json.loads(done.stdout)
    assert ("error" in answer) == (done.returncode != 0)
    return answer


def test_the_listing_has_the_commit_and_a_hash_for_every_file(hub: Hub, files: dict[str, bytes]) -> None:
    answer = ask(hub, do="list")
    assert answer["commit"] == hub.repositories["acme/tiny"].commit
    assert {entry["path"]: entry["size"] for entry in answer["files"]} == {
        name: len(data) for name, data in files.items()
    }
    assert [bool(entry["sha256"]) for entry in answer["files"]] == [False, True, False]
    assert all(entry["git"] for entry in answer["files"])


def test_fetched_files_are_the_hub_s(hub: Hub, files: dict[str, bytes], tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    assert ask(hub, do="fetch", folder=str(folder), paths=list(files)) == {}
    assert {name: (folder / name).read_bytes() for name in files} == files
    assert len(hub.served) == len(files)


def test_a_gated_model_needs_the_token_which_does_not_leave_the_hub(
    hub: Hub, files: dict[str, bytes], tmp_path: Path
) -> None:
    assert ask(hub, do="list", repo="acme/gated")["error"] == "GatedRepoError"
    answer = ask(hub, do="fetch", repo="acme/gated", token=TOKEN, folder=str(tmp_path / "folder"), paths=list(files))
    assert answer == {} and hub.served
    assert hub.leaked == []


@pytest.mark.parametrize(
    ("request_", "error"),
    [({"repo": "acme/unknown"}, "RepositoryNotFoundError"), ({"revision": "v9"}, "RevisionNotFoundError")],
)
def test_what_the_hub_does_not_have_is_named(hub: Hub, request_: dict[str, str], error: str) -> None:
    assert ask(hub, do="list", **request_)["error"] == error
