"""Every model is, byte by byte, what its manifest says, and nobody may change it."""

from __future__ import annotations

import json
from typing import Any

import pytest

PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")


@pytest.fixture
def models(receipt: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = receipt["model"]["models"]
    return found


def test_the_receipt_names_models(models: list[dict[str, Any]]) -> None:
    assert models


def test_every_byte_is_what_the_manifest_says(host: Any, models: list[dict[str, Any]]) -> None:
    for model in models:
        manifest = json.loads(host.file(f"{model['path']}/manifest.json").content_string)
        assert manifest["files"]
        sums = "".join(f"{entry['sha256']}  {entry['path']}\n" for entry in manifest["files"])
        checked = host.run(f"cd {model['path']} && sha256sum --check --strict --quiet - <<'EOF'\n{sums}EOF")
        assert checked.rc == 0, checked.stdout


def test_nothing_lies_beside_what_the_manifest_names(host: Any, models: list[dict[str, Any]]) -> None:
    for model in models:
        manifest = json.loads(host.file(f"{model['path']}/manifest.json").content_string)
        listed = host.run(f"cd {model['path']} && find . ! -type d -printf '%P\\n'").stdout.split("\n")
        assert {name for name in listed if name} == {entry["path"] for entry in manifest["files"]} | {"manifest.json"}
        assert not [name for name in listed if name.endswith(PICKLES)]


def test_models_are_root_s_and_read_only(host: Any, models: list[dict[str, Any]]) -> None:
    for model in models:
        assert host.run(f"find {model['path']} ! -user root -o -perm /222 ! -type l").stdout == ""


def test_the_name_leads_to_the_model(host: Any, models: list[dict[str, Any]]) -> None:
    for model in models:
        link = host.file(f"{model['path'].rpartition('/')[0]}/{model['name']}")
        assert link.is_symlink and host.run(f"readlink -f {link.path}").stdout.strip() == model["path"]
