"""A published tree is whole and proven, or it is not there; an interrupted or damaged one is finished from what is good."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.bedplate.hostfacts import read_json
from ansible.module_utils.bedplate.manifest import is_untouched, tree_manifest
from ansible.module_utils.bedplate.tree import incoming_of

from tests.unit.conftest import ModuleRunner


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    (folder / "sub").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "sub" / "weights").write_bytes(bytes(range(256)) * 64)
    (folder / "empty").touch()
    return folder


@pytest.fixture
def dest(tmp_path: Path) -> Path:
    return tmp_path / "models" / "acme--tiny@0123456789ab"


def copy(source: Path, incoming: str | Path) -> None:
    """What rsync does between the two calls."""
    shutil.copytree(source, incoming, dirs_exist_ok=True)


def published(run_module: ModuleRunner, source: Path, dest: Path) -> dict[str, Any]:
    manifest = tree_manifest(source)
    common = {"dest": str(dest), "manifest": manifest}
    copy(source, run_module("bedplate_tree", state="incoming", **common)["incoming"])
    link = str(dest.parent / "tiny")
    result = run_module("bedplate_tree", state="present", link=link, **common)
    assert result.get("changed"), result
    return {"state": "present", "link": link, **common}


def test_a_tree_gets_its_name_and_link_only_when_every_byte_is_proven(
    run_module: ModuleRunner, source: Path, dest: Path
) -> None:
    published(run_module, source, dest)
    assert (dest.parent / "tiny").resolve() == dest
    assert (dest / "sub" / "weights").read_bytes() == (source / "sub" / "weights").read_bytes()
    assert (dest / "config.json").stat().st_mode & 0o777 == 0o444 and dest.stat().st_mode & 0o777 == 0o555
    assert not incoming_of(dest).exists()


def test_a_second_run_changes_nothing(run_module: ModuleRunner, source: Path, dest: Path) -> None:
    again = published(run_module, source, dest)
    assert run_module("bedplate_tree", **again)["changed"] is False


def test_a_copy_that_differs_is_refused_and_the_good_files_are_kept(
    run_module: ModuleRunner, source: Path, dest: Path
) -> None:
    common = {"dest": str(dest), "manifest": tree_manifest(source)}
    incoming = Path(run_module("bedplate_tree", state="incoming", **common)["incoming"])
    copy(source, incoming)
    (incoming / "sub" / "weights").write_bytes(b"cut")
    result = run_module("bedplate_tree", state="present", **common)
    assert result["failed"] and result["msg"].startswith("BP520") and "sub/weights" in result["msg"]
    assert not dest.exists()
    assert (incoming / "config.json").exists() and not (incoming / "sub" / "weights").exists()


def test_what_the_manifest_does_not_name_is_not_published(run_module: ModuleRunner, source: Path, dest: Path) -> None:
    common = {"dest": str(dest), "manifest": tree_manifest(source)}
    incoming = Path(run_module("bedplate_tree", state="incoming", **common)["incoming"])
    copy(source, incoming)
    (incoming / ".cache").mkdir()
    (incoming / ".cache" / "part.incomplete").write_text("x")
    (incoming / "outside").symlink_to("/etc")
    run_module("bedplate_tree", state="present", **common)
    assert sorted(path.name for path in dest.iterdir()) == ["config.json", "empty", "manifest.json", "sub"]


def test_a_flipped_byte_is_found_and_only_that_file_has_to_come_again(
    run_module: ModuleRunner, source: Path, dest: Path
) -> None:
    again = published(run_module, source, dest)
    weights = dest / "sub" / "weights"
    status = weights.stat()
    weights.chmod(0o644)
    data = bytearray(weights.read_bytes())
    data[100] ^= 1
    weights.write_bytes(data)
    os.utime(weights, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert run_module("bedplate_tree", **again)["changed"] is False, "sizes and times do not show it"

    assert run_module("bedplate_tree", state="verified", dest=str(dest))["damaged"] == ["sub/weights"]
    common = {"dest": str(dest), "manifest": tree_manifest(source)}
    incoming = Path(run_module("bedplate_tree", state="incoming", **common)["incoming"])
    assert (incoming / "config.json").exists() and not (incoming / "sub" / "weights").exists()
    (incoming / "sub").mkdir()
    shutil.copy(source / "sub" / "weights", incoming / "sub" / "weights")
    assert run_module("bedplate_tree", **again)["changed"]
    assert run_module("bedplate_tree", state="verified", dest=str(dest))["damaged"] == []


def test_a_run_stopped_before_the_link_only_sets_the_link(run_module: ModuleRunner, source: Path, dest: Path) -> None:
    again = published(run_module, source, dest)
    (dest.parent / "tiny").unlink()
    assert run_module("bedplate_tree", **again)["changed"]
    assert (dest.parent / "tiny").resolve() == dest


def test_check_mode_says_what_would_change_and_writes_nothing(
    run_module: ModuleRunner, source: Path, dest: Path
) -> None:
    common = {"dest": str(dest), "manifest": tree_manifest(source)}
    assert run_module("bedplate_tree", _check_mode=True, state="incoming", **common)["changed"]
    assert run_module("bedplate_tree", _check_mode=True, state="present", **common)["changed"]
    assert not dest.parent.exists()


def test_the_revision_is_the_content_and_nothing_else(source: Path, tmp_path: Path) -> None:
    before = tree_manifest(source)["revision"]
    other = tmp_path / "elsewhere"
    shutil.copytree(source, other)
    (other / "__pycache__").mkdir()
    (other / "__pycache__" / "x.pyc").touch()
    assert tree_manifest(other)["revision"] == before
    (other / "config.json").write_text("{ }")
    assert tree_manifest(other)["revision"] != before


def test_known_hashes_are_used_only_while_size_and_time_fit(source: Path) -> None:
    known: dict[str, str] = {}
    before = tree_manifest(source, known)
    assert len(known) == 3 and tree_manifest(source, known) == before
    (source / "config.json").write_text("[]")
    assert tree_manifest(source, known)["revision"] != before["revision"]


def test_a_touched_file_makes_a_tree_suspect(run_module: ModuleRunner, source: Path, dest: Path) -> None:
    published(run_module, source, dest)
    manifest = read_json(dest / "manifest.json")
    assert is_untouched(dest, manifest)
    os.utime(dest / "config.json", ns=(1, 1))
    assert not is_untouched(dest, manifest)
