"""Every lock of torch is what it says: complete in hashes, the build its name tells, agreeing with the service's lock and the data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.bedplate.torch_locks import (
    entries,
    header,
    in_use,
    lock_of,
    lock_problems,
    name_of,
    read_lock,
    stand_in,
)

from ops.paths import LOCKS
from ops.torch_lock import SERVICE_LOCK
from plugins.module_utils.stack import resolve
from tests.unit.stack_oracle import data, release_row

FILES = sorted(LOCKS.glob("torch-*.txt"))
IDS = [path.name for path in FILES]
# facts/torch.yml pypi_pins, and the packages they are; CUDA 11 and 12 carry the major in the name.
PINNED = {
    "cudnn": "nvidia-cudnn",
    "nccl": "nvidia-nccl",
    "cuda_runtime": "nvidia-cuda-runtime",
    "cuda_toolkit": "cuda-toolkit",
}


def lock(path: Path) -> dict[str, Any]:
    return read_lock(str(path), path.read_text())


def pins(path: Path) -> dict[str, str]:
    """Version by package, with the marker if there is one."""
    return {name: entry.split("==")[1].split(" \\")[0] for name, entry in entries(path.read_text())}


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_a_lock_is_complete_and_what_its_name_says(path: Path) -> None:
    assert lock_problems(str(path), path.read_text()) == []
    assert path.name == name_of(lock(path)["torch"], lock(path)["variant"])
    assert f"./bedplate lock --torch {lock(path)['torch']} --variant {lock(path)['variant']}" in path.read_text()


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_a_lock_is_for_machines_and_pythons_the_release_has_wheels_for(path: Path) -> None:
    found = lock(path)
    release = release_row(found["torch"])
    assert release and found["architectures"] and found["pythons"]
    assert set(found["pythons"]) <= set(release["python"])
    plain = "+" not in pins(path)["torch"]
    for arch in found["architectures"]:
        assert found["variant"] == "cpu" or found["variant"] in release["variants"][arch]
        # The wheel without +cuNNN is the one everybody's index has: of this very variant.
        assert not plain or release["pypi_variant"][arch] == found["variant"]


@pytest.mark.parametrize("path", [path for path in FILES if "-cu" in path.name], ids=[i for i in IDS if "-cu" in i])
def test_a_cuda_lock_pins_the_libraries_that_torch_pins(path: Path) -> None:
    found, release = pins(path), release_row(lock(path)["torch"])
    assert release and found["triton"].split()[0] == release["pypi_pins"]["triton"]
    for fact, package in PINNED.items():
        if wanted := release["pypi_pins"].get(fact):
            locked = next(v for name, v in found.items() if name == package or name.startswith(f"{package}-cu"))
            assert locked.split()[0].removesuffix(".0") == wanted.removesuffix(".0"), package
    cuda = next(row["cuda"] for row in data("cuda")["pytorch_variants"] if row["variant"] == lock(path)["variant"])
    runtime = next(v for name, v in found.items() if name.startswith("nvidia-cuda-runtime"))
    assert runtime.startswith(f"{cuda}.")


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_a_lock_has_nothing_the_services_lock_has_and_fits_its_transformers(path: Path) -> None:
    assert not set(pins(path)) & set(pins(SERVICE_LOCK))
    found = lock(path)
    cuda = found["variant"] != "cpu"
    for arch in found["architectures"]:
        facts = {"gpus": [{"name": "NVIDIA A100-SXM4-80GB"}] if cuda else [], "driver": "580.95.05", "arch": arch}
        want = {
            "torch": found["torch"],
            "variant": found["variant"],
            "libs": {"transformers": pins(SERVICE_LOCK)["transformers"]},
        }
        assert resolve({**facts, "python": "3.11"}, want).verdict == "ok"


def test_the_locks_serve_the_drivers_and_gpus_of_the_field() -> None:
    stacks = [lock(path) for path in FILES]
    wanted = {
        ("NVIDIA A100-SXM4-80GB", "535.216.01"): "2.10.0+cu128",
        ("NVIDIA A100-SXM4-80GB", "580.95.05"): "2.13.0+cu130",
        ("Tesla V100-SXM2-32GB", "535.216.01"): "2.10.0+cu128",
        ("Tesla P100-PCIE-16GB", "525.147.05"): "2.7.1+cu126",
        ("NVIDIA GeForce GTX 1080 Ti", "580.95.05"): "2.7.1+cu126",
        ("NVIDIA B200", "570.211.01"): "2.10.0+cu128",
        ("Tesla T4", "550.163.01"): "2.10.0+cu128",
    }
    for (gpu, driver), build in wanted.items():
        facts = {"gpus": [{"name": gpu}], "driver": driver, "os": {"id": "debian", "version": "12"}, "python": "3.11"}
        decision = resolve(facts, {"stacks": stacks})
        assert (decision.verdict, f"{decision.torch}+{decision.variant}") == ("ok", build), (gpu, driver)


SUM = f"--hash=sha256:{'0' * 64}"
GOOD = (
    header("2.9.1", "cu128", ["x86_64"], ["3.11", "3.12"], "me")
    + f"torch==2.9.1 \\\n    {SUM}\ntriton==3.5.1 \\\n    {SUM}\n"
)


@pytest.mark.parametrize(
    ("name", "text", "cause"),
    [
        ("torch-2.9.1-cu126.txt", GOOD, "variant cu128 in its header"),
        ("torch-2.9.0-cu128.txt", GOOD, "torch 2.9.1"),
        ("torch-2.9.1-cu128.txt", GOOD.replace("torch==2.9.1", "torch==2.9.1+cu126"), "torch 2.9.1+cu126 in it"),
        ("torch-2.9.1-cu128.txt", GOOD.replace("torch==2.9.1", "numpy==2.0"), "no torch"),
        (
            "torch-2.9.1-cu128.txt",
            GOOD.replace(f"triton==3.5.1 \\\n    {SUM}", "triton==3.5.1"),
            "no sha256 for triton",
        ),
        ("torch-2.9.1-cu128.txt", GOOD.replace('"3.12"]', '"3.12"'), "no JSON"),
        ("mine.txt", GOOD, "a name other than"),
    ],
)
def test_a_damaged_lock_is_refused(name: str, text: str, cause: str) -> None:
    problems = lock_problems(f"/locks/{name}", text)
    assert any(problem.startswith("BP307 ") and cause in problem for problem in problems), problems


def test_a_lock_without_a_header_is_taken_by_its_name() -> None:
    text = "\n".join(line for line in GOOD.splitlines() if not line.startswith("#"))
    assert lock_problems("/locks/torch-2.9.1-cu128.txt", text) == []
    found = read_lock("/locks/torch-2.9.1-cu128.txt", text)
    assert (found["torch"], found["variant"], found["architectures"]) == ("2.9.1", "cu128", [])


def test_ones_own_lock_of_a_build_replaces_the_checkouts() -> None:
    locks = in_use([read_lock("/a/torch-2.9.1-cu128.txt", GOOD), read_lock("/b/torch-2.9.1-cu128.txt", GOOD)])
    assert len(locks) == 1 and lock_of(locks, "2.9.1", "cu128") == "/b/torch-2.9.1-cu128.txt"
    assert lock_of(locks, "2.9.1", "cu130") is None


def test_the_bytes_that_stand_in_are_the_newest_of_their_variant_for_the_machine() -> None:
    locks = [lock(path) for path in FILES]
    assert Path(stand_in(locks, "cpu", "x86_64", "3.11.9") or "").name == "torch-2.13.0-cpu.txt"
    assert Path(stand_in(locks, "cpu", "aarch64", "3.12") or "").name == "torch-2.10.0-cpu.txt"
    assert stand_in(locks, "cpu", "x86_64", "3.9") is None


def test_the_header_is_read_back() -> None:
    found = read_lock("/locks/torch-2.9.1-cu128.txt", GOOD)
    assert json.loads(json.dumps(found)) == {
        "torch": "2.9.1",
        "variant": "cu128",
        "architectures": ["x86_64"],
        "pythons": ["3.11", "3.12"],
        "path": "/locks/torch-2.9.1-cu128.txt",
    }
