"""The infrastructure probe on recorded trees (a double of /proc and /sys: no GPU here) and on this machine."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.unit.conftest import ModuleRunner

OPEN_DRIVER = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build  (dvs-builder@U22)  Tue Sep 23 2025\n"
CLOSED_DRIVER = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.261.03  Tue Jul 15 2025\nGCC version: gcc 12.2.0\n"


def tree(root: Path, files: dict[str, str]) -> Path:
    """Write files below root."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def device(vendor: str, model: str, kind: str) -> dict[str, str]:
    return {"vendor": vendor + "\n", "device": model + "\n", "class": kind + "\n"}


@pytest.fixture
def gpu_server(tmp_path: Path) -> Path:
    """Two H100s, their audio-less bridge and a network card, as sysfs shows them without a driver."""
    devices = {
        "0000:17:00.0": device("0x10de", "0x2330", "0x030200"),
        "0000:3d:00.0": device("0x10de", "0x2330", "0x030200"),
        "0000:05:00.0": device("0x10de", "0x22a3", "0x068000"),
        "0000:81:00.0": device("0x15b3", "0x1021", "0x020700"),
    }
    return tree(
        tmp_path,
        {
            f"sys/bus/pci/devices/{address}/{name}": text
            for address, files in devices.items()
            for name, text in files.items()
        }
        | {
            "proc/meminfo": "MemTotal:       2113513520 kB\n",
            "proc/1/comm": "systemd\n",
            "proc/sys/kernel/osrelease": "6.1.0-41-amd64\n",
        },
    )


def test_gpus_are_found_without_a_driver_and_bridges_are_not_gpus(gpu_server: Path, run_module: ModuleRunner) -> None:
    probe = run_module(
        "bedplate_infrastructure_probe",
        disk_path="/opt/bedplate",
        proc=str(gpu_server / "proc"),
        sys=str(gpu_server / "sys"),
    )["probe"]
    assert probe["gpus"] == [
        {"address": "0000:17:00.0", "pci_id": "10de:2330"},
        {"address": "0000:3d:00.0", "pci_id": "10de:2330"},
    ]
    assert probe["nvidia_module"] is None
    assert probe["memory_bytes"] == 2113513520 * 1024
    assert (probe["kernel"], probe["systemd"]) == ("6.1.0-41-amd64", True)


@pytest.mark.parametrize(
    ("text", "module"),
    [
        (OPEN_DRIVER, {"version": "580.95.05", "flavour": "open"}),
        (CLOSED_DRIVER, {"version": "535.261.03", "flavour": "proprietary"}),
    ],
)
def test_loaded_module_has_version_and_flavour(
    tmp_path: Path, run_module: ModuleRunner, text: str, module: dict[str, str]
) -> None:
    tree(tmp_path, {"driver/nvidia/version": text, "meminfo": "MemTotal: 1024 kB\n"})
    probe = run_module("bedplate_infrastructure_probe", disk_path="/", proc=str(tmp_path), sys=str(tmp_path))["probe"]
    assert probe["nvidia_module"] == module


def test_a_listening_port_is_told_with_its_process(run_module: ModuleRunner) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        probe = run_module("bedplate_infrastructure_probe", disk_path="/not/there/yet")["probe"]
    process = next(listener["process"] for listener in probe["listeners"] if listener["port"] == port)
    assert process == Path("/proc/self/comm").read_text().strip()
    assert probe["disk_free_bytes"] > 0
