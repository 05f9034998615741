"""conda is the one that was installed, knows no channel but the given ones, and left no half-made environment."""

from __future__ import annotations

import json
from pathlib import PurePosixPath
from typing import Any

import pytest


@pytest.fixture(scope="module")
def conda(receipt: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = receipt["conda"]
    return found


@pytest.fixture(scope="module")
def envs(conda: dict[str, Any]) -> PurePosixPath:
    """The folder of the environments."""
    return PurePosixPath(next(iter(conda["environments"].values()))).parent


def ask(host: Any, conda: dict[str, Any], arguments: str) -> Any:
    """conda's own answer, as JSON."""
    return json.loads(host.check_output(f"{conda['prefix']}/bin/conda {arguments} --json"))


def test_conda_is_the_installed_one(host: Any, conda: dict[str, Any], envs: PurePosixPath) -> None:
    info = ask(host, conda, "info")
    assert info["root_prefix"] == conda["prefix"]
    assert info["conda_version"] == conda["version"]
    assert host.check_output(f"realpath {envs.parent}/conda") == conda["prefix"]


def test_no_channel_but_the_given_ones(host: Any, conda: dict[str, Any]) -> None:
    if conda["variant"] == "existing":
        pytest.skip("an existing conda keeps its own configuration")
    config = ask(host, conda, "config --show channels default_channels channel_priority")
    assert config["channels"] == conda["channels"]
    assert config["default_channels"] == []
    assert config["channel_priority"] == "strict"


def test_configuration_is_the_proven_one(host: Any, conda: dict[str, Any]) -> None:
    if conda["variant"] == "existing":
        pytest.skip("an existing conda keeps its own configuration")
    stamp = json.loads(host.file(f"{conda['prefix']}/.bedplate-stamp.json").content_string)
    assert host.file(f"{conda['prefix']}/.condarc").sha256sum == stamp["condarc_sha256"]


def test_conda_lists_every_environment_with_its_python(host: Any, conda: dict[str, Any]) -> None:
    for prefix in conda["environments"].values():
        listed = ask(host, conda, f"list --prefix {prefix}")
        # mamba wraps the list.
        packages = {p["name"]: p["version"] for p in (listed["packages"] if isinstance(listed, dict) else listed)}
        assert host.check_output(f"{prefix}/bin/python -V") == f"Python {packages['python']}"
        assert host.check_output(f"{prefix}/bin/python -I -c 'import sys; print(sys.prefix)'") == prefix


def test_environments_share_their_files_with_condas_cache(host: Any, conda: dict[str, Any]) -> None:
    devices = host.check_output(f"stat -c %d {conda['prefix']} {' '.join(conda['environments'].values())}").split()
    if len(set(devices)) > 1:
        pytest.skip("conda and the environments are on different file systems")
    for prefix in conda["environments"].values():
        links = host.check_output(f"stat -c %h {prefix}/lib/python3*/os.py")
        assert int(links) > 1


def test_every_environment_is_finished(host: Any, envs: PurePosixPath) -> None:
    # conda itself would list an interrupted one.
    folders = host.check_output(f"find {envs} -mindepth 1 -maxdepth 1 -type d").split()
    assert folders
    for folder in folders:
        assert host.file(f"{folder}/.bedplate-stamp.json").exists, folder


def test_only_root_may_change_them(host: Any, conda: dict[str, Any], envs: PurePosixPath) -> None:
    for folder in (conda["prefix"], str(envs), *conda["environments"].values()):
        found = host.run(f"find {folder} ! -type l \\( -perm -o=w -o ! -user root \\) -print -quit")
        assert (found.rc, found.stdout) == (0, "")
