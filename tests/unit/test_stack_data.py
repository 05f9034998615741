"""The resolver's data: whole, consistent with itself, and refused when it is damaged."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from plugins.module_utils.stack import StackError, load_tables, resolve
from plugins.module_utils.stack.loader import DATA, FILES
from tests.unit.stack_oracle import data


def test_every_gpu_name_belongs_to_one_row() -> None:
    rows = data("gpus")["gpus"]
    for row in rows:
        for name in row["names"]:
            assert [other["id"] for other in rows if re.match(other["pattern"], name)] == [row["id"]], name


def test_every_gpu_has_an_architecture_that_drivers_know() -> None:
    tables = load_tables()
    assert {gpu.arch for gpu in tables.gpus} <= set(tables.architectures)
    for gpu in tables.gpus:
        assert tables.arch_of[gpu.capability] == data("gpus")["meta"]["cc_to_arch"][".".join(map(str, gpu.capability))]
        assert gpu.max_branch == tables.architectures[gpu.arch].last_branch


def test_every_wheel_has_a_driver_floor_and_kernels() -> None:
    tables = load_tables()
    wheels = [
        (release, name, wheel)
        for release in tables.releases
        for variants in release.wheels.values()
        for name, wheel in variants.items()
    ]
    assert len(tables.releases) == 30 and len(wheels) > 100
    for release, name, wheel in wheels:
        assert tables.cuda[name].min_driver <= tables.cuda[name].paired_driver
        assert wheel.kernels == tuple(sorted(wheel.kernels)), f"{release.version}+{name}"


def test_a_wheel_is_never_expected_from_a_cuda_that_cannot_build_its_kernels() -> None:
    highest = {row["cuda"]: row["max_cc"] for row in data("cuda")["compute_capability"]}
    for release in load_tables().releases:
        for variants in release.wheels.values():
            for name, wheel in variants.items():
                limit = highest.get(load_tables().cuda[name].version.text)
                if limit:
                    assert max(wheel.kernels) <= tuple(map(int, limit.split("."))), f"{release.version}+{name}"


def test_uncertain_marks_of_the_data_are_kept() -> None:
    tables = load_tables()
    marked = sum(
        bool(wheel.get("uncertain"))
        for release in data("torch")["releases"]
        for variants in release["variants"].values()
        for wheel in variants.values()
    )
    kept = sum(
        wheel.uncertain
        for release in tables.releases
        for variants in release.wheels.values()
        for wheel in variants.values()
    )
    assert kept == marked > 5
    assert sum(gpu.min_driver_uncertain for gpu in tables.gpus) > 50


def test_sources_are_named_for_every_file() -> None:
    readme = (DATA / "README.md").read_text(encoding="utf-8")
    assert all(f"| {name}.yml |" in readme for name in FILES)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copytree(DATA, tmp_path / "data")
    return tmp_path / "data"


DAMAGES = {
    "a missing file": ("torch.yml", None, "", r"torch\.yml: .*No such file"),
    "not YAML": ("gpus.yml", "gpus:", "gpus: [", r"gpus\.yml: "),
    "a table gone": ("drivers.yml", "\nbranches:", "\nbranch:", r"drivers\.yml branches: KeyError"),
    "a field gone": ("gpus.yml", "  cc: '8.9'\n", "", r"gpus\.yml gpus, row \d+: KeyError: 'cc'"),
    "a version spoilt": ("cuda.yml", "min_driver: 450.80.02", "min_driver: newest", r"cuda\.yml pytorch_variants, row 1: ValueError"),
    "a word spoilt": ("gpus.yml", "class: consumer", "class: toy", r"'toy' is none of"),
    "a pattern spoilt": ("gpus.yml", "^(NVIDIA )?Tesla T4$", "^(NVIDIA Tesla T4$", r"gpus\.yml gpus, row"),
    "an empty table": ("cuda.yml", "pytorch_variants:\n", "pytorch_variants: []\nold:\n", r"pytorch_variants: it is empty"),
    "a variant unknown": ("cuda.yml", "variant: cu132", "variant: cu133", r"variant cu132 has no row"),
    "another shape": ("os.yml", None, "just text", r"os\.yml glibc: "),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_data_is_refused_with_file_and_place(copy: Path, damage: str) -> None:
    name, old, new, message = DAMAGES[damage]
    path = copy / name
    if old is None:
        path.write_text(new) if new else path.unlink()
    else:
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(StackError, match=rf"^BP144 .*{message}.*\. Fix: restore "):
        load_tables(copy)


def test_a_copy_of_the_data_answers_the_same(copy: Path) -> None:
    question = {"gpus": [{"name": "NVIDIA L4"}], "driver": "580.95.05", "python": "3.12"}, {"torch": "auto"}
    assert resolve(*question, tables=load_tables(copy)) == resolve(*question)
