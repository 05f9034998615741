"""What preflight refuses, and that it says all of it at once."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.module_utils.bedplate.preflight import GIB, preflight_problems

PROBE: dict[str, Any] = {
    "memory_bytes": 64 * GIB,
    "disk_free_bytes": 500 * GIB,
    "systemd": True,
    "listeners": [{"port": 22, "process": "sshd"}],
}
FACTS = {"distribution": "Debian", "distribution_major_version": "12", "architecture": "x86_64"}
WANTED: dict[str, Any] = {
    "platforms": {"Debian": ["12", "13"], "Ubuntu": ["22", "24"]},
    "architectures": ["x86_64", "aarch64"],
    "memory_gib": 8,
    "disk_gib": 20,
    "disk_path": "/opt/bedplate",
    "ports": [{"port": 80, "process": "nginx"}, {"port": 443, "process": "nginx"}],
}


def problems(probe: dict[str, Any] | None = None, facts: dict[str, Any] | None = None) -> list[str]:
    return preflight_problems({**PROBE, **(probe or {})}, {**FACTS, **(facts or {})}, WANTED)


def test_a_fitting_server_is_accepted() -> None:
    assert problems() == []


def test_our_own_nginx_may_hold_the_port() -> None:
    assert problems({"listeners": [{"port": 443, "process": "nginx"}]}) == []


def test_a_server_sold_with_8_gb_passes_although_the_kernel_shows_less() -> None:
    assert problems({"memory_bytes": int(7.75 * GIB)}) == []


@pytest.mark.parametrize(
    ("probe", "facts", "code", "cause"),
    [
        ({}, {"distribution_major_version": "11"}, "BP101", "found Debian 11, wanted Debian 12/13, Ubuntu 22/24"),
        ({}, {"distribution": "Rocky", "distribution_major_version": "9"}, "BP101", "found Rocky 9"),
        ({}, {"architecture": "riscv64"}, "BP102", "found riscv64"),
        ({"memory_bytes": 4 * GIB}, {}, "BP103", "found 4.0 GiB, wanted 8 GiB"),
        ({"systemd": False}, {}, "BP104", "wanted systemd"),
        ({"disk_free_bytes": 3 * GIB}, {}, "BP105", "found 3.0 GiB, wanted 20 GiB"),
        ({"listeners": [{"port": 443, "process": "apache2"}]}, {}, "BP106", "found apache2 listening on it"),
        ({"listeners": [{"port": 80, "process": None}]}, {}, "BP106", "found an unknown process listening on it"),
    ],
)
def test_each_refusal_has_code_cause_and_fix(
    probe: dict[str, Any], facts: dict[str, Any], code: str, cause: str
) -> None:
    (only,) = problems(probe, facts)
    assert only.startswith(code) and cause in only and "Fix: " in only


def test_all_problems_are_said_at_once() -> None:
    found = problems({"memory_bytes": GIB, "disk_free_bytes": GIB}, {"distribution": "Fedora"})
    assert [text[:5] for text in found] == ["BP101", "BP103", "BP105"]
