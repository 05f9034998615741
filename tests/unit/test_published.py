"""What nothing uses is found with its size and can be removed; what anything may still need stays."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ops.model import table
from tests.unit.conftest import ModuleRunner

USED, FORMER, OLD = "acme--m@aaaaaaaaaaaa", "acme--m@bbbbbbbbbbbb", "acme--m@cccccccccccc"


@pytest.fixture
def server(tmp_path: Path) -> dict[str, Any]:
    """Arguments of the module for a server with a model in use, one to roll back to, one that nothing uses, and so on."""
    root, etc, state, run = (tmp_path / name for name in ("root", "etc", "state", "run"))
    for folder in (USED, FORMER, OLD):
        (root / "models" / folder).mkdir(parents=True)
        (root / "models" / folder / "w").write_bytes(b"x" * 5000)
        text = json.dumps(
            {
                "requested": "hf://acme/m@main",
                "licence": "mit",
                "files": [{"path": "w", "size": 5000, "sha256": "0" * 64}],
            }
        )
        (root / "models" / folder / "manifest.json").write_text(text)
        (root / "models" / folder).chmod(0o555)
    (root / "models" / "m").symlink_to(USED)
    (root / "models" / "old").symlink_to(OLD)
    for place in (
        "models/.incoming/acme--m@dddddddddddd",
        "models/.incoming/acme--m@eeeeeeeeeeee",
        "releases/111111111111",
        "releases/222222222222",
        "web/333333333333",
    ):
        (root / place).mkdir(parents=True)
    (root / "current").symlink_to("releases/111111111111")
    (root / "web" / "current").symlink_to("333333333333")
    (run / "acme--m@eeeeeeeeeeee").mkdir(parents=True)
    (run / "acme--m@eeeeeeeeeeee" / "job.json").write_text("{}")
    (state / "generations").mkdir(parents=True)
    (state / "generations" / "previous.json").write_text(f"path: {root}/models/{FORMER}")
    etc.mkdir()
    (etc / "inference.yml").write_text(f"path: {root}/models/{USED}")
    places = {
        "root": root,
        "etc": etc,
        "state_folder": state,
        "run": run,
        "receipt": tmp_path / "none",
        "units": tmp_path / "none",
    }
    return {name: str(path) for name, path in places.items()}


def test_each_folder_tells_what_uses_it(server: dict[str, Any], run_module: ModuleRunner) -> None:
    answer = run_module("bedplate_published", **server)
    why = {item["name"]: item["why"] for item in answer["items"]}
    assert why == {
        USED: "in use",
        FORMER: "to roll back to",
        OLD: "",
        "acme--m@dddddddddddd": "",
        "acme--m@eeeeeeeeeeee": "being fetched",
        "111111111111": "in use",
        "222222222222": "",
        "333333333333": "in use",
    }
    (old,) = (item for item in answer["items"] if item["name"] == OLD)
    assert old["bytes"] >= 5000 and old["links"] == ["old"] and old["licence"] == "mit"
    assert table(answer["items"]).row_count == len(why)


def test_only_what_nothing_uses_is_removed_and_its_links_with_it(
    server: dict[str, Any], run_module: ModuleRunner
) -> None:
    models = Path(server["root"]) / "models"
    asked = [str(models / name) for name in (USED, FORMER, OLD)]
    checked = run_module("bedplate_published", state="pruned", paths=asked, _check_mode=True, **server)
    assert checked["removed"] == [str(models / OLD)] and (models / OLD).exists()
    answer = run_module("bedplate_published", state="pruned", paths=asked, **server)
    assert answer["removed"] == [str(models / OLD)]
    assert sorted(path.name for path in models.glob("[!.]*")) == [USED, FORMER, "m"]
    assert not run_module("bedplate_published", state="pruned", paths=asked, **server)["changed"]


def test_verifying_reads_every_byte(server: dict[str, Any], run_module: ModuleRunner) -> None:
    answer = run_module("bedplate_published", state="verified", **server)
    damaged = {item["name"]: item["damaged"] for item in answer["items"] if item["kind"] == "model"}
    assert damaged == {USED: ["w"], FORMER: ["w"], OLD: ["w"]}, "their sha256 was made up"
