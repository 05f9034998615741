"""A bundle for a place without the internet: made of what was collected, whole or refused, enough for a host or refused."""

from __future__ import annotations

import json
import os
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import jinja2
import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from ops.bundle import NoBundle, kinds_of, ready
from ops.bundle_files import assemble, page_packages
from ops.inventory import Host
from ops.paths import ROOT
from ops.sbom import sbom
from plugins.module_utils.bedplate import bundle
from plugins.module_utils.bedplate.manifest import sha256_of
from plugins.module_utils.bedplate.wheelmeta import wheel_metadata

DEBIAN = "debian-12-x86_64"
PACKAGES = {
    "rsync": ("3.5.0-1", ["libc6", "libpopt0"], "GPL-3.0-or-later"),
    "libpopt0": ("1.19-1", ["libc6"], "MIT"),
    "nginx": ("1:1.22.1-9", ["nginx-common"], "BSD-2-clause AND Expat"),
}
WISHES: dict[str, Any] = {
    "platform": DEBIAN,
    "installer": "1" * 64,
    "environments": ["inference-0123456789ab"],
    "models": ["hf://acme/tutor@main"],
    "page": "",
}


def collected(output: Path, host: str = "gpu01") -> None:
    """What a collecting run leaves: files, what is known of each, and what was wished."""
    items = []
    top = output / "platforms" / DEBIAN

    def add(kind: str, path: Path, content: bytes, **facts: Any) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        common = {"licence": "MIT", "source": f"https://mirror.example/{path.name}", "name": path.name, "version": "1"}
        measured = {"path": path.relative_to(output).as_posix(), "size": len(content), "sha256": sha256_of(path)}
        items.append({"kind": kind, **common, **measured, **facts})

    for name, (version, depends, licence) in PACKAGES.items():
        control = f"Package: {name}\nVersion: {version}\nArchitecture: amd64\nDescription: {name}\n"
        facts = {"name": name, "version": version, "architecture": "amd64", "depends": depends, "control": control}
        add(
            "deb",
            top / "apt" / f"{name}_{version.partition(':')[2] or version}_amd64.deb",
            name.encode(),
            licence=licence,
            **facts,
        )
    record = {
        "fn": "python-3.11.7-0.conda",
        "name": "python",
        "version": "3.11.7",
        "build": "0",
        "build_number": 0,
        "subdir": "linux-64",
    }
    add(
        "conda", top / "conda/linux-64/python-3.11.7-0.conda", b"python", name="python", version="3.11.7", record=record
    )
    add("installer", top / "installers" / f"{'1' * 64}.sh", b"#!/bin/sh\n", licence="")
    add(
        "wheel",
        top / "wheels/torch-2.13.0+cpu-cp311.whl",
        b"torch",
        name="torch",
        version="2.13.0+cpu",
        licence="BSD-3-Clause",
    )
    manifest = {"repo": "acme/tutor", "requested": "hf://acme/tutor@main", "revision": "ab", "files": []}
    model = {"directory": "acme--tutor@ab", "manifest": manifest}
    add(
        "model",
        output / "models/acme--tutor@ab/config.json",
        b"{}",
        name="acme/tutor",
        version="ab",
        model=model,
        licence="see the card",
    )
    for folder, content in (("collected", items), ("wishes", WISHES)):
        (output / folder).mkdir()
        (output / folder / f"{host}.json").write_text(json.dumps(content))


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A small bundle."""
    collected(tmp_path)
    assemble(tmp_path, {"gpu01": ["gpu01", "gpu02"]}, controller=False)
    return tmp_path


def test_every_file_is_named_with_sum_size_licence_and_source(made: Path) -> None:
    read = bundle.read(made)
    named = {entry["path"]: entry for entry in read["files"]}
    there = {path.relative_to(made).as_posix() for path in made.rglob("*") if path.is_file()}
    assert there == {*named, "bundle.json", "sbom.cdx.json"}
    nginx = named[f"platforms/{DEBIAN}/apt/nginx_1.22.1-9_amd64.deb"]
    assert (nginx["version"], nginx["size"], nginx["licence"]) == ("1:1.22.1-9", 5, "BSD-2-clause AND Expat")
    assert nginx["source"].startswith("https://")
    assert read["bytes"] == sum(entry["size"] for entry in read["files"])
    assert read["hosts"] == ["gpu01", "gpu02"]
    assert bundle.damaged(made, read) == []


def test_what_an_earlier_bundle_held_alone_goes(made: Path) -> None:
    stranger = made / "platforms" / DEBIAN / "apt" / "old_1_amd64.deb"
    stranger.write_bytes(b"old")
    collected(made)
    assemble(made, {}, controller=False)
    assert not stranger.exists()
    assert bundle.damaged(made, bundle.read(made)) == []


def test_apt_and_conda_find_the_packages_by_their_sums(made: Path) -> None:
    top = made / "platforms" / DEBIAN
    packages = (top / "apt/Packages").read_text()
    assert (
        "Filename: ./nginx_1.22.1-9_amd64.deb\nSize: 5\nSHA256: " + sha256_of(top / "apt/nginx_1.22.1-9_amd64.deb")
        in packages
    )
    index = json.loads((top / "conda/linux-64/repodata.json").read_text())
    assert index["packages.conda"]["python-3.11.7-0.conda"]["version"] == "3.11.7"
    assert json.loads((top / "conda/noarch/repodata.json").read_text())["packages.conda"] == {}


def test_a_server_without_rsync_gets_it_with_what_it_needs(made: Path) -> None:
    first = bundle.read(made)["platforms"][DEBIAN]["bootstrap"]
    assert [path.rpartition("/")[2] for path in first] == ["libpopt0_1.19-1_amd64.deb", "rsync_3.5.0-1_amd64.deb"]


def test_the_sbom_is_valid_cyclonedx(made: Path) -> None:
    text = (made / "sbom.cdx.json").read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    said = {component["name"]: component for component in json.loads(text)["components"]}
    assert said["nginx"]["purl"] == "pkg:deb/debian/nginx@1:1.22.1-9?arch=amd64&distro=debian-12"
    assert said["torch"]["hashes"][0]["content"] == sha256_of(
        made / "platforms" / DEBIAN / "wheels/torch-2.13.0+cpu-cp311.whl"
    )
    assert said["torch"]["licenses"][0]["license"]["id"] == "BSD-3-Clause"
    assert said["acme/tutor"]["licenses"][0]["license"]["name"] == "see the card"


def test_the_sbom_names_what_is_in_the_page(made: Path) -> None:
    text = sbom(bundle.read(made), page_packages())
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    react = next(one for one in json.loads(text)["components"] if one.get("purl", "").startswith("pkg:npm/react@"))
    assert react["licenses"][0]["license"]["id"] == "MIT"


def test_no_bundle_is_refused(tmp_path: Path) -> None:
    for content in ("", "{}", '{"format": 99}', "[1]"):
        (tmp_path / "bundle.json").write_text(content)
        with pytest.raises(bundle.BundleError, match="BP180"):
            bundle.read(tmp_path)


def test_one_wrong_byte_a_missing_file_and_a_cut_one_are_found(made: Path) -> None:
    read = bundle.read(made)
    top = made / "platforms" / DEBIAN
    known: dict[str, str] = {}
    assert bundle.damaged(made, read, known) == [] and len(known) == len(read["files"])
    (top / "wheels/torch-2.13.0+cpu-cp311.whl").write_bytes(b"tOrch")
    (top / "apt/nginx_1.22.1-9_amd64.deb").unlink()
    (top / "conda/linux-64/python-3.11.7-0.conda").write_bytes(b"pyth")
    phrases = bundle.damaged(made, read, known)
    assert [phrase.split(" with ")[0].rpartition("/")[2] for phrase in sorted(phrases)] == [
        "nginx_1.22.1-9_amd64.deb",
        "python-3.11.7-0.conda",
        "torch-2.13.0+cpu-cp311.whl",
    ]
    assert "BP181" in bundle.damage_problem(made, phrases)


@pytest.mark.parametrize(
    ("wish", "phrase"),
    [
        ({"platform": "ubuntu-24-x86_64"}, f"anything for ubuntu-24-x86_64 (it has {DEBIAN})"),
        ({"platform": "debian-12-aarch64"}, f"anything for debian-12-aarch64 (it has {DEBIAN})"),
        ({"installer": "2" * 64}, "the conda installer 222222222222"),
        ({"environments": ["inference-ffffffffffff"]}, "the environment inference-ffffffffffff"),
        ({"models": ["hf://acme/other@main"]}, "the model hf://acme/other@main"),
        ({"page": "0123456789ab"}, "the chat page 0123456789ab (it has none)"),
    ],
)
def test_what_a_host_wants_and_the_bundle_lacks_is_named(made: Path, wish: dict[str, Any], phrase: str) -> None:
    read = bundle.read(made)
    assert bundle.lacking(read, WISHES) == []
    assert bundle.lacking(read, {**WISHES, **wish}) == [phrase]
    assert phrase in bundle.lack_problem(made, read, [phrase])


def test_a_host_takes_its_platform_and_its_models(made: Path) -> None:
    read = bundle.read(made)
    tree = bundle.tree_of(read, DEBIAN)
    assert {entry["path"].split("/")[0] for entry in tree["files"]} == {"apt", "conda", "installers", "wheels"}
    assert list(bundle.models_for(read, ["hf://acme/tutor@main"])) == ["acme--tutor@ab"]
    assert bundle.models_for(read, ["hf://acme/other@main"]) == {}


def test_hosts_that_get_the_same_are_collected_once() -> None:
    wishes = {"a": {"demo_enabled": True}, "b": {"demo_enabled": True}, "c": {}}
    targets = [Host(name, {"ansible_host": f"10.0.0.{i}", **given}) for i, (name, given) in enumerate(wishes.items())]
    kinds = kinds_of(targets, lambda _host: (DEBIAN, {}))
    assert [[host.name for host in kind.hosts] for kind in kinds] == [["a", "b"], ["c"]]


def test_a_platform_that_cannot_be_made_here_and_a_foreign_folder_are_refused(tmp_path: Path) -> None:
    kinds = kinds_of([Host("a", {"bedplate_bundle_platform": "ubuntu-24-s390x"})], None)
    with pytest.raises(NoBundle, match="BP021"):
        ready(tmp_path, kinds)
    (tmp_path / "letter.txt").write_text("dear reader")
    with pytest.raises(NoBundle, match="BP022"):
        ready(tmp_path, [])


def deb(folder: Path, name: str, version: str, copyright_file: str) -> Path:
    """A real package with a copyright file."""
    tree = folder / f"{name}.tree"
    (tree / "DEBIAN").mkdir(parents=True)
    control = f"Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: a <a@example>\nDepends: libc6 (>= 2), x | y\nDescription: a\n"
    (tree / "DEBIAN/control").write_text(control)
    (tree / "usr/share/doc" / name).mkdir(parents=True)
    (tree / "usr/share/doc" / name / "copyright").write_text(copyright_file)
    target = folder / f"{name}_{version.replace(':', '%3a')}_all.deb"
    subprocess.run(["dpkg-deb", "-b", "--root-owner-group", str(tree), str(target)], check=True, capture_output=True)
    return target


def test_apt_sees_the_bundle_alone_and_proves_its_packages(tmp_path: Path) -> None:
    file = deb(tmp_path, "bedplate-test-b", "2.0-1", "").rename(tmp_path / "bedplate-test-b_2.0-1_all.deb")
    control = subprocess.run(["dpkg-deb", "-f", str(file)], check=True, capture_output=True, text=True).stdout
    repository = tmp_path / "current" / "apt"
    repository.mkdir(parents=True)
    item = {"path": f"apt/{file.name}", "size": file.stat().st_size, "sha256": sha256_of(file), "control": control}
    file.rename(repository / file.name)
    (repository / "Packages").write_text(bundle.packages_index([item]))
    names = {"bedplate_etc": str(tmp_path), "__bedplate_bundle_here": str(tmp_path / "current")}
    for folder in ("bundle", "lists/partial", "cache/archives/partial"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("apt.conf", "sources.list"):
        text = jinja2.Template((ROOT / f"templates/etc/bedplate/bundle/{name}.j2").read_text())
        (tmp_path / "bundle" / name).write_text(text.render(**names, __bedplate_bundle_lists=str(tmp_path / "lists")))

    def apt(*words: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "APT_CONFIG": str(tmp_path / "bundle/apt.conf")}
        # As root here; on a server the user _apt reads the world-readable copy.
        quiet = ["-o", "APT::Sandbox::User=root", "-o", f"Dir::Cache={tmp_path}/cache"]
        return subprocess.run(
            ["apt-get", *quiet, *words], capture_output=True, text=True, cwd=tmp_path, env=environment
        )

    read = apt("update")
    assert read.returncode == 0 and "http" not in read.stdout, read.stdout + read.stderr
    assert apt("download", "bedplate-test-b").returncode == 0 and (tmp_path / file.name).exists()
    assert apt("download", "bash").returncode != 0, "the machine's own sources are not seen"
    (tmp_path / file.name).unlink()
    (repository / file.name).write_bytes(bytes(repository.joinpath(file.name).stat().st_size))
    damaged = apt("download", "bedplate-test-b")
    assert damaged.returncode != 0 and "Hash Sum mismatch" in damaged.stderr


def test_what_a_server_fetched_is_gathered(tmp_path: Path, run_module: Any) -> None:
    root, folder = tmp_path / "root", tmp_path / "harvest"
    text = "Format: https://example\n\nFiles: *\nLicense: GPL-2+\n the text\n\nFiles: b\nLicense: Expat\n"
    (tmp_path / "debs").mkdir()
    deb(tmp_path / "debs", "bedplate-test-a", "1:2.0-1", text)
    meta = root / "envs/inference-0123456789ab/conda-meta"
    meta.mkdir(parents=True)
    cache = root / "conda-1111/pkgs"
    cache.mkdir(parents=True)
    (cache / "pip-26-0.conda").write_bytes(b"pip")
    record = {
        "name": "pip",
        "version": "26",
        "fn": "pip-26-0.conda",
        "subdir": "noarch",
        "license": "MIT",
        "files": ["x"],
    }
    (meta / "pip.json").write_text(
        json.dumps({**record, "url": "https://user:pw@mirror.example/noarch/pip-26-0.conda"})
    )
    published = root / "models/acme--tutor@ab"
    published.mkdir(parents=True)
    (published / "config.json").write_text("{}")
    entry = {"path": "config.json", "size": 2, "sha256": sha256_of(published / "config.json"), "mtime_ns": 1}
    said = {
        "repo": "acme/tutor",
        "requested": "hf://acme/tutor@main",
        "commit": "ab",
        "licence": "mit",
        "revision": "cd",
        "files": [entry],
    }
    (published / "manifest.json").write_text(json.dumps(said))
    given = {"root": str(root), "installers": str(tmp_path / "none"), "package_folders": [str(tmp_path / "debs")]}
    result = run_module("bedplate_harvest", folder=str(folder), platform=DEBIAN, host="gpu01", **given)
    assert not result.get("failed"), result
    items = {item["name"]: item for item in json.loads((folder / "collected/gpu01.json").read_text())}
    package = items["bedplate-test-a"]
    assert package["path"] == f"platforms/{DEBIAN}/apt/bedplate-test-a_2.0-1_all.deb"
    assert (package["licence"], package["depends"]) == ("Expat AND GPL-2+", ["libc6", "x", "y"])
    assert items["pip"]["source"] == "https://mirror.example/noarch/pip-26-0.conda"
    assert (
        items["pip"]["record"]["sha256"] == sha256_of(folder / items["pip"]["path"])
        and "files" not in items["pip"]["record"]
    )
    assert items["acme/tutor"]["model"]["manifest"]["files"][0].keys() == {"path", "size", "sha256"}
    assert (folder / "models/acme--tutor@ab/config.json").read_text() == "{}"


def test_a_package_that_conda_no_longer_has_is_refused(tmp_path: Path, run_module: Any) -> None:
    meta = tmp_path / "envs/demo-0123456789ab/conda-meta"
    meta.mkdir(parents=True)
    (meta / "pip.json").write_text(
        json.dumps({"name": "pip", "version": "26", "fn": "pip-26-0.conda", "subdir": "noarch"})
    )
    given = {"root": str(tmp_path), "installers": str(tmp_path / "none"), "package_folders": []}
    result = run_module("bedplate_harvest", folder=str(tmp_path / "harvest"), platform=DEBIAN, host="gpu01", **given)
    assert result["failed"] and "BP183" in result["msg"]


def test_a_wheel_tells_its_licence(tmp_path: Path) -> None:

    told = {
        "License-Expression: MIT\nLicense: other": "MIT",
        "License: BSD": "BSD",
        f"License: {'long ' * 30}\nClassifier: License :: OSI Approved :: MIT License": "MIT License",
        "": "",
    }
    for index, (lines, licence) in enumerate(told.items()):
        wheel = tmp_path / f"a-{index}.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr("a-1.dist-info/METADATA", f"Metadata-Version: 2.1\nName: a\nVersion: 1\n{lines}\n\ntext\n")
        assert wheel_metadata(wheel) == ("a", "1", licence)
