"""The truth check: each recorded host gives exactly the refusal its description names, healthy ones none."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest
import yaml
from ansible.module_utils.bedplate.driver_truth import driver_problems, driver_warnings

from tests.fixtures.machine import TREES

HOSTS = {path.parent.name: yaml.safe_load(path.read_text()) for path in sorted(TREES.glob("*/host.yml"))}
PARTS = ("found", "wanted", "Fix:")


def probe_of(tree: str, **changed: Any) -> dict[str, Any]:
    """The probe of a recorded tree with some answers changed."""
    return {**copy.deepcopy(HOSTS[tree]["probe"]), **changed}


def codes(problems: list[str]) -> list[str]:
    return [problem.split()[0] for problem in problems]


@pytest.mark.parametrize("tree", HOSTS)
def test_a_recorded_host_gives_exactly_the_refusals_of_its_description(tree: str) -> None:
    problems = driver_problems(HOSTS[tree]["probe"])
    assert codes(problems) == HOSTS[tree]["problems"]
    assert all(word in problem for problem in problems for word in PARTS)


def test_every_code_of_the_truth_check_has_a_recorded_host_or_a_case_here() -> None:
    from_trees = {code for host in HOSTS.values() for code in host["problems"]}
    assert from_trees == {"BP131", "BP132", "BP133", "BP134", "BP136", "BP137", "BP138", "BP139"}
    assert codes(driver_problems(probe_of("a100-535"), "cu130")) == ["BP135"]


def test_a_cpu_host_has_no_problem() -> None:
    assert driver_problems(probe_of("no-driver", gpus=[])) == []


@pytest.mark.parametrize("variant", ["cu126", "cu128", "cpu", "auto", None])
def test_a_wheel_the_driver_runs_is_no_problem(variant: str | None) -> None:
    assert driver_problems(probe_of("a100-535"), variant) == []


def test_a_driver_too_old_for_the_wheel_is_told_with_both_versions() -> None:
    (problem,) = driver_problems(probe_of("a100-535"), "cu130")
    assert "535.261.03" in problem and "580" in problem and "pytorch_variant=auto" in problem


def test_forward_compatibility_libraries_make_an_old_driver_young_enough() -> None:
    compat = {"package": "cuda-compat-13-0", "version": "580.95.05"}
    assert driver_problems(probe_of("a100-535", cuda_compat=compat), "cu130") == []


def test_libraries_upgraded_under_a_loaded_module_ask_for_a_reboot() -> None:
    (problem,) = driver_problems(HOSTS["mismatch"]["probe"])
    assert re.search(r"535\.261\.03.*580\.95\.05.*reboot the server", problem)


def test_a_module_without_its_libraries_is_a_mismatch() -> None:
    assert codes(driver_problems(probe_of("t4", nvidia_userspace=None))) == ["BP132"]


@pytest.mark.parametrize(
    "change",
    [
        {"version": None, "unit": {"load": "not-found", "active": "inactive"}},
        {"version": "580.95.05", "unit": {"load": "loaded", "active": "inactive"}},
        {"version": "580.82.07", "unit": {"load": "loaded", "active": "active"}},
    ],
    ids=["not installed", "stopped", "another version"],
)
def test_nvswitches_need_a_running_fabric_manager_of_the_drivers_version(change: dict[str, Any]) -> None:
    assert codes(driver_problems(probe_of("h100-nvswitch", fabric_manager=change))) == ["BP136"]


def test_a_fabric_still_joining_is_told_although_fabric_manager_runs() -> None:
    probe = probe_of("h100-nvswitch")
    probe["gpus"][3]["fabric_state"] = "In Progress"
    (problem,) = driver_problems(probe)
    assert problem.startswith("BP136") and "In Progress" in problem


def test_a_fabric_whose_switches_are_not_on_the_bus_is_known_by_its_gpus() -> None:
    absent = {"version": None, "unit": {"load": "not-found", "active": "inactive"}}
    probe = probe_of("h100-nvswitch", nvswitches=[], fabric_manager=absent)
    assert driver_problems(probe) == []
    probe["gpus"][0]["fabric_state"] = "In Progress"
    assert codes(driver_problems(probe)) == ["BP136"]


def test_an_unsigned_module_under_secure_boot_is_blocked_even_if_the_log_is_silent() -> None:
    probe = probe_of("secure-boot", failure_signatures=[])
    probe["nvidia_module_on_disk"]["signer"] = None
    assert codes(driver_problems(probe)) == ["BP138"]


def test_a_gpu_given_to_a_virtual_machine_is_told_by_its_holder() -> None:
    probe = probe_of("no-driver")
    for gpu in probe["gpus"]:
        gpu["driver"] = "vfio-pci"
    (problem,) = driver_problems(probe)
    assert problem.startswith("BP131") and "held by vfio-pci" in problem


def test_a_gpu_that_nvidia_smi_cannot_ask_is_told_with_its_words() -> None:
    smi = {"path": "/usr/bin/nvidia-smi", "rc": 15, "message": "GPU is lost", "driver": None, "cuda": None}
    probe = probe_of("t4", nvidia_smi=smi)
    probe["gpus"][0]["uuid"] = None
    (problem,) = driver_problems(probe)
    assert problem.startswith("BP139") and "GPU is lost" in problem and "0 of 1" in problem


@pytest.mark.parametrize(("code", "warns"), [(79, True), (119, True), (13, False), (31, False)])
def test_an_error_that_asks_for_a_reset_is_a_warning_and_a_programs_own_error_is_not(code: int, warns: bool) -> None:
    probe = probe_of("t4", last_xid={"code": code, "text": f"Xid (PCI:0000:00:1e): {code}, x"})
    assert driver_problems(probe) == []
    assert bool(driver_warnings(probe)) == warns


def test_a_gpu_the_data_does_not_know_is_left_to_the_resolver() -> None:
    probe = probe_of("t4")
    probe["gpus"][0].update(name="NVIDIA Nonsense 1", pci_id="10de:ffff", compute_cap=None)
    assert driver_problems(probe, "cu130") == []
