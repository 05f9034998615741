"""The first server of a group gives a model to the others, to those who know the secret, and only what a manifest names."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.bedplate.model_fanout import fed_by_others, missing_bytes, origins_of, seeds
from ansible.module_utils.bedplate.model_share import Share

ENDPOINTS = {"hub": "https://hub.example/", "modelscope": "https://scope.example"}
FOLDER = "acme--tiny@0123456789ab"


def server(host: str, has: list[str], due: list[str], group: str = "here") -> dict[str, Any]:
    return {"host": host, "group": group, "has": has, "due": due}


@pytest.mark.parametrize(
    ("servers", "giver"),
    [
        ([server("one", [], [FOLDER]), server("two", [], [FOLDER])], "one"),
        ([server("one", [], [FOLDER]), server("two", [FOLDER], [])], "two"),
        ([server("one", [], [FOLDER]), server("two", [], [])], None),
        ([server("one", [], [FOLDER]), server("two", [], [FOLDER], "there")], None),
        ([server("one", [], [FOLDER], ""), server("two", [], [FOLDER], "")], None),
    ],
    ids=["the first", "who has it", "one alone", "another group", "no group"],
)
def test_who_gives_a_model_to_the_others(servers: list[dict[str, Any]], giver: str | None) -> None:
    found = seeds(servers).get("here", {})
    assert found.get(FOLDER) == giver
    fed = fed_by_others([{"directory": FOLDER}], found, "one")
    assert fed == ([FOLDER] if giver == "two" else [])


def test_origins_come_in_order_and_only_the_hub_gets_the_token() -> None:
    model = {"source": "hf://acme/tiny@main", "directory": FOLDER, "manifest": {"commit": "c0ffee"}}
    found = origins_of(
        model,
        ENDPOINTS,
        ["/on/the/controller", "file:///mnt/models", "https://mirror.example/m/"],
        "one",
        "fd00::1",
        8469,
    )
    assert [one["kind"] for one in found] == ["files", "folder", "files", "files"]
    assert found[0]["url"] == f"http://[fd00::1]:8469/{{secret}}/{FOLDER}/{{path}}" and found[0]["secret"] == "share"
    assert found[1]["path"] == f"/mnt/models/{FOLDER}"
    assert found[2]["url"] == f"https://mirror.example/m/{FOLDER}/{{path}}" and "secret" not in found[2]
    assert found[3]["url"] == "https://hub.example/acme/tiny/resolve/c0ffee/{path}" and found[3]["secret"] == "hub"


def test_room_that_an_interrupted_transfer_holds_is_not_asked_for_again() -> None:
    model = {"directory": FOLDER, "whole": False, "manifest": {"bytes": 1000}}
    assert missing_bytes([model, model], {}) == 1020, "two names of one folder need it once"
    assert missing_bytes([model], {FOLDER: 900}) == 120
    assert missing_bytes([{**model, "whole": True}], {}) == 0


@pytest.fixture
def share(tmp_path: Path) -> Iterator[Share]:
    model = tmp_path / FOLDER
    (model / "sub").mkdir(parents=True)
    (model / "sub" / "a b.txt").write_bytes(b"0123456789")
    (model / "other.txt").write_text("not named")
    manifest = {"files": [{"path": "sub/a b.txt", "size": 10, "sha256": "0"}]}
    (model / "manifest.json").write_text(json.dumps(manifest))
    running = Share(tmp_path, "the-secret", ("127.0.0.1", 0))
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield running
    running.shutdown()
    running.server_close()


def ask(share: Share, path: str, **headers: str) -> bytes:
    request = urllib.request.Request(f"http://127.0.0.1:{share.server_port}{path}", headers=headers)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return bytes(answer.read())


def test_a_server_gives_named_files_and_parts_of_them(share: Share) -> None:
    address = f"/the-secret/{FOLDER}/sub/a%20b.txt"
    assert ask(share, address) == b"0123456789"
    assert ask(share, address, Range="bytes=3-5") == b"345"
    assert ask(share, address, Range="bytes=7-") == b"789"


@pytest.mark.parametrize(
    "path",
    [
        f"/wrong/{FOLDER}/sub/a%20b.txt",
        f"/the-secret/{FOLDER}/other.txt",
        f"/the-secret/{FOLDER}/manifest.json",
        f"/the-secret/{FOLDER}/../../etc/passwd",
        "/the-secret/../etc/passwd",
        "/",
    ],
)
def test_it_gives_nothing_else(share: Share, path: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        ask(share, path)
    assert refused.value.code == 404
