"""models.lock: every kind of source is asked what it holds, and servers get what was written down and nothing else."""

from __future__ import annotations

import hashlib
import json
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.bedplate.manifest import tree_manifest
from ansible.module_utils.bedplate.model_listing import SourceError
from ansible.module_utils.bedplate.model_lock import LockError, lock_text, locked, read_lock
from ansible.module_utils.bedplate.model_reference import reference_of
from ansible.module_utils.bedplate.model_source import wanted_files
from rich.console import Console

from ops.model import lock
from ops.paths import TUTOR
from tests.fixtures.hub.faults import Fault
from tests.fixtures.hub.server import Hub, Repository

TOKEN = "hf_canary_91ce"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of a file server: the tutor as an archive, and its files beside a list of checksums."""
    folder = tmp_path_factory.mktemp("served")
    with tarfile.open(folder / "tutor.tar.gz", "w:gz", compresslevel=1) as archive:
        archive.add(TUTOR, "tutor-1.0")
    lines = []
    for path in sorted(TUTOR.iterdir()):
        (folder / path.name).write_bytes(path.read_bytes())
        lines.append(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n")
    (folder / "SHA256SUMS").write_text("".join(lines))
    return folder


@pytest.fixture
def hub(served: Path) -> Iterator[Hub]:
    repositories = {
        "acme/tutor": Repository(TUTOR),
        "acme/gated": Repository(TUTOR, token=TOKEN),
        "acme/damaged": Repository(TUTOR, damaged={"config.json"}),
        "acme/files": Repository(served),
    }
    with Hub(repositories) as running:
        yield running


def entry(hub: Hub, source: str, token: str = "") -> dict[str, Any]:
    reference = reference_of(source.replace("HUB", hub.url))
    assert reference is not None
    return locked(reference, "tutor", {"hub": hub.url, "modelscope": hub.url}, token, tries=2)


def test_every_kind_of_source_amounts_to_the_same_files(hub: Hub) -> None:
    wanted = wanted_files(one["path"] for one in tree_manifest(TUTOR)["files"])
    truth = {one["path"]: one["sha256"] for one in tree_manifest(TUTOR)["files"] if one["path"] in wanted}
    commit = hub.repositories["acme/tutor"].commit
    sources = {
        "hf://acme/tutor@main": commit,
        "modelscope://acme/tutor@master": commit,
        "HUB/files/acme/files/SHA256SUMS": None,
        "HUB/files/acme/files/tutor.tar.gz": None,
        f"file://{TUTOR}": None,
    }
    for source, pinned in sources.items():
        found = entry(hub, source)
        assert {one["path"]: one["sha256"] for one in found["files"]} == truth, source
        assert found["commit"] == pinned, source
        assert found["directory"].endswith(f"@{(pinned or found['revision'])[:12]}"), source
    assert entry(hub, "hf://acme/tutor@main")["licence"] == "apache-2.0"
    assert entry(hub, "hf://acme/tutor@main")["facts"]["shape"]["model_type"] == "llama"
    assert entry(hub, "HUB/files/acme/files/tutor.tar.gz")["archive"]["folder"] == "tutor-1.0/"


def test_the_weights_are_not_fetched_to_lock_them(hub: Hub) -> None:
    entry(hub, "hf://acme/tutor@main")
    size = (TUTOR / "model.safetensors").stat().st_size
    assert hub.meter.sent["acme/tutor/model.safetensors"] < size / 2, "at most the header"


def test_a_busy_hub_is_waited_for_as_long_as_it_says(hub: Hub) -> None:
    hub.faults.add("acme/tutor/", Fault(status=429, retry_after="1"))
    assert entry(hub, "hf://acme/tutor@main")["commit"]


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("hf://acme/unknown@main", "BP510 .*RepoNotFound.*check the name"),
        ("hf://acme/tutor@v9", "BP510 .*RevisionNotFound.*check the revision"),
        ("hf://acme/gated@main", "BP510 .*GatedRepo.*model_hub_token"),
        ("modelscope://acme/tutor@v9", "BP510 .*no files"),
        ("HUB/files/acme/files/nothing.tar", "BP510 .*HTTP 404"),
        ("HUB/files/acme/files/SHA256SUMS.tar", "BP510 "),
        ("file:///nowhere/at/all", "BP510 .*no folder"),
        ("hf://acme/damaged@main", "BP511 .*config.json"),
    ],
)
def test_a_source_that_does_not_give_its_files_is_refused(hub: Hub, source: str, said: str) -> None:
    with pytest.raises(SourceError, match=said):
        entry(hub, source)


def test_a_token_opens_a_gated_model_and_stays_at_the_hub(hub: Hub) -> None:
    assert entry(hub, "hf://acme/gated@main", TOKEN)["files"]
    assert hub.leaked == []


def test_pickles_are_refused_when_they_are_locked(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((TUTOR / "config.json").read_bytes())
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    with (
        Hub({"acme/pickle": Repository(tmp_path)}) as running,
        pytest.raises(SourceError, match=r"BP502 .*pytorch_model\.bin"),
    ):
        entry(running, "hf://acme/pickle@main")


@pytest.fixture
def own_code(tmp_path: Path) -> Path:
    """The tutor as a model that brings its own code."""
    folder = tmp_path / "own"
    shutil.copytree(TUTOR, folder)
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoModelForCausalLM": "modeling_own.Own"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "modeling_own.py").write_text("raise SystemExit('this ran')\n")
    return folder


def test_code_of_a_models_own_is_written_down_and_left_behind(own_code: Path, tmp_path: Path) -> None:
    console = Console(width=300, record=True, file=(tmp_path / "out").open("w"))
    with Hub({"acme/own": Repository(own_code)}) as running:
        found = entry(running, "hf://acme/own@main")
        assert lock("hf://acme/own@main", tmp_path, running.url, None, console) == 0
    assert found["remote_code"] == {"AutoModelForCausalLM": "modeling_own.Own"}
    assert not [one for one in found["files"] if one["path"].endswith(".py")]
    assert read_lock(tmp_path / "models.lock") == {"hf://acme/own@main": found}
    assert f"site.yml takes it with ignore_remote_code: {found['commit']} alone" in console.export_text()


def test_the_file_reads_back_as_it_was_written(hub: Hub, tmp_path: Path) -> None:
    models = {"hf://acme/tutor@main": entry(hub, "hf://acme/tutor@main")}
    path = tmp_path / "models.lock"
    path.write_text(lock_text(models))
    assert read_lock(path) == models
    assert read_lock(tmp_path / "none") == {}


@pytest.mark.parametrize(
    ("change", "into"),
    [
        ("size: 720", "size: -1"),
        ("path: config.json", "path: ../config.json"),
        ('sha256: "', 'sha256: "0'),
        ("models:", "models: ["),
    ],
)
def test_a_lock_that_was_tampered_with_is_refused(hub: Hub, tmp_path: Path, change: str, into: str) -> None:
    path = tmp_path / "models.lock"
    text = lock_text({"hf://acme/tutor@main": entry(hub, "hf://acme/tutor@main")})
    assert change in text
    path.write_text(text.replace(change, into, 1))
    with pytest.raises(LockError, match="BP515"):
        read_lock(path)


def test_the_verb_writes_it_and_says_what_it_locked(hub: Hub, tmp_path: Path) -> None:
    console = Console(width=300, record=True, file=(tmp_path / "out").open("w"))
    assert lock("hf://acme/tutor@main", tmp_path, hub.url, None, console) == 0
    first = (tmp_path / "models.lock").read_text()
    assert hub.repositories["acme/tutor"].commit in first
    assert lock(None, tmp_path, hub.url, None, console) == 0
    assert (tmp_path / "models.lock").read_text() == first, "the same again"
    assert lock("hf://acme/unknown@main", tmp_path, hub.url, None, console) == 2
    assert lock("/a/folder", tmp_path, hub.url, None, console) == 2
    assert (tmp_path / "models.lock").read_text() == first, "a refusal changes nothing"
    said = console.export_text()
    assert "7 files, 2.8 MB, apache-2.0" in said and "BP510" in said and "BP514" in said
