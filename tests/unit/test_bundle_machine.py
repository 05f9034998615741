"""The machine a bundle is for: asked or named, and the collecting server that stands for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ops.bundle import Kind, NoBundle, kinds_of, ready
from ops.inventory import Host
from plugins.module_utils.bedplate.bundle_machine import as_machine, machine_of, machine_problem

DEBIAN = "debian-12-x86_64"


def test_other_hardware_is_collected_by_itself_and_the_inventory_s_word_is_taken() -> None:
    asked = {"gpus": ["Tesla T4"], "kernel": "6.1.0-49-amd64", "nvswitches": False}
    named = {
        "bedplate_bundle_platform": DEBIAN,
        "bedplate_bundle_machine": {"gpus": ["Tesla T4"], "driver": "535.261.03"},
    }
    targets = [
        Host("asked", {}),
        Host("corrected", {"bedplate_bundle_machine": {"kernel": "6.1.0-50-amd64"}}),
        Host("named", named),
        Host("cpu", {"bedplate_bundle_platform": DEBIAN}),
    ]
    kinds = {kind.hosts[0].name: kind for kind in kinds_of(targets, lambda _host: (DEBIAN, asked))}
    assert kinds["asked"].machine == asked
    assert kinds["corrected"].machine == {**asked, "kernel": "6.1.0-50-amd64"}
    assert kinds["named"].machine == {"gpus": ["Tesla T4"], "driver": "535.261.03"}
    assert kinds["cpu"].machine == {} and kinds["cpu"].hardware == ""
    assert kinds["asked"].hardware == " for 1 Tesla T4"


@pytest.mark.parametrize(
    ("machine", "found"),
    [
        ({"gpus": ["NVIDIA A1000000"], "kernel": "6.1.0-49-amd64"}, "unknown GPU 'NVIDIA A1000000'"),
        ({"gpus": ["10de:ffff"], "kernel": "6.1.0-49-amd64"}, "unknown GPU '10de:ffff'"),
        ({"gpus": ["Tesla T4"]}, "neither kernel nor driver"),
    ],
)
def test_a_machine_that_says_too_little_is_refused(tmp_path: Path, machine: dict[str, Any], found: str) -> None:
    with pytest.raises(NoBundle, match="BP184") as refused:
        ready(tmp_path, [Kind(DEBIAN, (Host("a", {}),), machine)])
    assert found in str(refused.value)


def test_a_collecting_server_stands_for_the_machine() -> None:
    here = {
        "kernel": "6.18.0",
        "gpus": [],
        "nvswitches": [],
        "nvidia_module": None,
        "memory_bytes": 5,
        "headers": False,
    }
    assert as_machine(here, {}) == here
    machine = {"gpus": ["10de:20b5", "NVIDIA A100 80GB PCIe"], "kernel": "6.1.0-49-amd64", "nvswitches": True}
    assert machine_problem(machine) is None
    bare = as_machine(here, machine)
    assert (bare["kernel"], bare["nvidia_module"], bare["memory_bytes"]) == ("6.1.0-49-amd64", None, 5)
    assert [gpu["pci_id"] for gpu in bare["gpus"]] == ["10de:20b5", "10de:20b5"] and bare["nvswitches"]
    assert all(79e9 < gpu["memory_bytes"] < 86e9 for gpu in bare["gpus"])
    kept = as_machine(here, {**machine, "driver": "535.261.03"})
    assert kept["nvidia_module"]["version"] == "535.261.03"
    again = machine_of({**kept, "gpus": [{"name": None, "pci_id": "10de:20b5"}]})
    assert again == {"gpus": ["10de:20b5"], "kernel": "6.1.0-49-amd64", "nvswitches": True, "driver": "535.261.03"}
