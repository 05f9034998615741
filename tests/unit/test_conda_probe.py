"""The base probe reads conda's own records on a tree like a server's."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from tests.unit.conftest import ModuleRunner

CHANNEL = "https://channel.example/conda-forge"


def record(prefix: Path, name: str, version: str) -> None:
    meta = prefix / "conda-meta"
    meta.mkdir(parents=True, exist_ok=True)
    url = f"{CHANNEL}/linux-64/{name}-{version}-0.conda"
    (meta / f"{name}-{version}-0.json").write_text(json.dumps({"name": name, "version": version, "url": url}))


def make_environment(prefix: Path, mark: str | None) -> None:
    record(prefix, "python", "3.11.9")
    (prefix / "conda-meta/history").touch()
    (prefix / "lib/python3.11").mkdir(parents=True)
    (prefix / "lib/python3.11/os.py").write_text("")
    if mark:
        (prefix / mark).write_text('{"uv": "1"}')


def probe(run_module: ModuleRunner, root: Path) -> dict[str, Any]:
    found: dict[str, Any] = run_module(
        "bedplate_base_probe", root=str(root), profile=str(root / "profile.sh"), machine={"sys": str(root / "sys")}
    )
    assert found["changed"] is False
    return dict(found["probe"])


def test_a_bare_server_has_nothing(tmp_path: Path, run_module: ModuleRunner) -> None:
    found = probe(run_module, tmp_path / "absent")
    assert found["conda"] is None
    assert found["environments"] == found["links"] == {}
    assert found["uv"] == found["gpus"] == []
    assert found["disk_free_bytes"] > 0


def test_conda_is_read_through_its_link(tmp_path: Path, run_module: ModuleRunner) -> None:
    prefix = tmp_path / "conda-0123456789ab"
    record(prefix, "conda", "24.7.1")
    (tmp_path / "conda").symlink_to(prefix.name)
    assert probe(run_module, tmp_path)["conda"]["version"] is None
    (prefix / "bin").mkdir()
    (prefix / "bin/conda").touch()
    (prefix / ".bedplate-stamp.json").write_text('{"installer_sha256": "aa"}')
    found = probe(run_module, tmp_path)
    assert found["installations"] == [prefix.name]
    assert found["conda"]["prefix"] == str(prefix)
    assert found["conda"]["version"] == "24.7.1"
    assert found["conda"]["stamp"] == {"installer_sha256": "aa"}
    assert found["conda"]["condarc_sha256"] is None


def test_the_marks_tell_finished_fresh_and_interrupted_environments_apart(
    tmp_path: Path, run_module: ModuleRunner
) -> None:
    marks = {"finished": ".bedplate-stamp.json", "fresh": ".bedplate-conda.json", "interrupted": None}
    for name, mark in marks.items():
        make_environment(tmp_path / "envs" / name, mark)
    (tmp_path / "envs/inference").symlink_to("finished")
    found = probe(run_module, tmp_path)
    by_name = {Path(prefix).name: environment for prefix, environment in found["environments"].items()}
    assert {name: (e["stamp"], e["pristine"]) for name, e in by_name.items()} == {
        "finished": ({"uv": "1"}, None),
        "fresh": (None, {"uv": "1"}),
        "interrupted": (None, None),
    }
    assert by_name["finished"]["python"] == "3.11.9"
    assert by_name["finished"]["channels"] == [CHANNEL]
    assert by_name["finished"]["stamped_at"] > 0
    assert found["links"] == {"inference": str(tmp_path / "envs/finished")}


def test_hard_links_are_seen(tmp_path: Path, run_module: ModuleRunner) -> None:
    prefix = tmp_path / "envs/one"
    make_environment(prefix, None)
    assert probe(run_module, tmp_path)["environments"][str(prefix)]["hard_linked"] is False
    os.link(prefix / "lib/python3.11/os.py", tmp_path / "cached")
    assert probe(run_module, tmp_path)["environments"][str(prefix)]["hard_linked"] is True


def test_a_half_written_stamp_is_no_stamp(tmp_path: Path, run_module: ModuleRunner) -> None:
    prefix = tmp_path / "envs/one"
    make_environment(prefix, None)
    (prefix / ".bedplate-stamp.json").write_text('{"uv": ')
    assert probe(run_module, tmp_path)["environments"][str(prefix)]["stamp"] is None


def test_gpus_are_found_without_a_driver(tmp_path: Path, run_module: ModuleRunner) -> None:
    device = tmp_path / "sys/bus/pci/devices/0000:17:00.0"
    device.mkdir(parents=True)
    for name, value in {"vendor": "0x10de", "class": "0x030200", "device": "0x2330"}.items():
        (device / name).write_text(value + "\n")
    assert probe(run_module, tmp_path)["gpus"] == [{"address": "0000:17:00.0", "pci_id": "10de:2330"}]
