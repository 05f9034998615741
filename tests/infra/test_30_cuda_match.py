"""The host has a decision with a reason, it fits the hardware of this moment, and the rules agree with it."""

from __future__ import annotations

import re
from typing import Any

import pytest

from plugins.module_utils.stack import resolve


@pytest.fixture(scope="module")
def decision(receipt: dict[str, Any]) -> dict[str, Any]:
    section: dict[str, Any] = receipt["cuda_match"]
    return section


@pytest.fixture(scope="module")
def on_gpus(receipt: dict[str, Any], decision: dict[str, Any]) -> dict[str, Any]:
    """The decision of a host that computes on its GPUs."""
    if decision["variant"] == "cpu":
        pytest.skip("this host computes on the CPU")
    return decision


def test_decision_has_verdict_variant_and_explanation(decision: dict[str, Any]) -> None:
    assert decision["verdict"] in ("ok", "ok_with_warning")
    assert decision["variant"] == "cpu" or re.fullmatch(r"cu\d{3}", decision["variant"])
    assert decision["explanation"]


def test_a_host_without_gpus_runs_the_cpu_variant(receipt: dict[str, Any], decision: dict[str, Any]) -> None:
    assert receipt["preflight"]["gpus"] or decision["variant"] == "cpu"


def test_decision_is_about_the_gpus_and_the_driver_that_are_there(
    host: Any, machine: dict[str, str], receipt: dict[str, Any], on_gpus: dict[str, Any]
) -> None:
    assert len(on_gpus["gpus"]) == len(receipt["preflight"]["gpus"])
    loaded = host.file(f"{machine['proc']}/driver/nvidia/version").content_string
    assert on_gpus["driver"] == receipt["nvidia_driver"]["version"]
    assert f" {on_gpus['driver']} " in loaded


def test_the_rules_agree_with_the_decision(host: Any, receipt: dict[str, Any], on_gpus: dict[str, Any]) -> None:
    gpus = [
        {"name": name, "pci_id": pci_id}
        for name, pci_id in zip(on_gpus["gpus"], receipt["preflight"]["gpus"], strict=True)
    ]
    facts = {
        "gpus": gpus,
        "driver": on_gpus["driver"],
        "kernel_module": receipt["nvidia_driver"]["flavour"],
        "arch": receipt["preflight"]["architecture"],
        "python": on_gpus["python"],
        "cuda_compat": on_gpus.get("cuda_compat"),
    }
    found = resolve(facts, {"torch": on_gpus["torch"], "variant": on_gpus["variant"]})
    assert found.verdict in ("ok", "ok_with_warning"), found.explanation
    assert any(on_gpus["driver"] in line for line in on_gpus["explanation"])
