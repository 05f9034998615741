"""The host has a decision with a reason, and it fits the hardware."""

from __future__ import annotations

from typing import Any


def test_decision_has_verdict_variant_and_explanation(host: Any, receipt: dict[str, Any]) -> None:
    decision = receipt["cuda_match"]
    assert decision["verdict"] in ("ok", "ok_with_warning")
    assert decision["variant"] == "cpu" or decision["variant"].startswith("cu")
    assert decision["explanation"]


def test_a_host_without_gpus_runs_the_cpu_variant(host: Any, receipt: dict[str, Any]) -> None:
    assert receipt["preflight"]["gpus"] or receipt["cuda_match"]["variant"] == "cpu"
