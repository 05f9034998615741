"""The infrastructure probe on recorded trees (a double of a machine's hardware: no GPU here) and on this machine."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.bedplate.hostfacts import computes_bfloat16

from tests.fixtures.machine import TREES
from tests.unit.conftest import ModuleRunner

HOSTS = sorted(path.parent.name for path in TREES.glob("*/host.yml"))


def machine(root: Path) -> dict[str, str]:
    """bedplate_machine of a whole recorded tree."""
    return {**{name: str(root / name) for name in ("proc", "sys", "dev")}, "path": str(root / "bin"), "root": str(root)}


@pytest.mark.parametrize("host", HOSTS)
def test_a_recorded_host_is_read_as_its_description_says(host: str, run_module: ModuleRunner) -> None:
    wanted: dict[str, Any] = yaml.safe_load((TREES / host / "host.yml").read_text())["probe"]
    probe = run_module("bedplate_infrastructure_probe", disk_path="/", machine=machine(TREES / host))["probe"]
    found = {key: probe[key] for key in wanted}
    if found["nvidia_smi"]:
        assert found["nvidia_smi"].pop("path") == str(TREES / host / "bin/nvidia-smi")
    assert found == wanted


@pytest.mark.parametrize("host", ["t4", "mig", "h100-nvswitch", "secure-boot"])
def test_a_recording_of_a_host_is_read_as_the_host(host: str, tmp_path: Path, run_module: ModuleRunner) -> None:
    tree = TREES / host
    roots = {"PROC": f"{tree}/proc", "SYS": f"{tree}/sys", "DEV": f"{tree}/dev", "ROOT": str(tree)}
    subprocess.run(
        ["sh", str(TREES / "record.sh"), "copy"],
        cwd=tmp_path,
        env={**os.environ, **roots, "PATH": f"{tree}/bin:{os.environ['PATH']}"},
        check=True,
    )
    (tmp_path / "copy/bin").mkdir()
    for command in (tree / "bin").iterdir():
        (tmp_path / "copy/bin" / command.name).symlink_to(command.resolve())
    read, again = (
        run_module("bedplate_infrastructure_probe", disk_path="/", machine=machine(root))["probe"]
        for root in (tree, tmp_path / "copy")
    )
    changing = ("disk_free_bytes", "listeners", "nvidia_smi")
    assert {key: read[key] for key in read if key not in changing} == {
        key: again[key] for key in again if key not in changing
    }


def test_every_answer_is_there_on_a_host_without_a_gpu_and_no_command_is_run(
    tmp_path: Path, run_module: ModuleRunner
) -> None:
    (tmp_path / "bin").mkdir()
    for command in ("nvidia-smi", "modinfo", "journalctl", "dkms", "dpkg-query", "systemctl", "dmesg"):
        (tmp_path / "bin" / command).write_text(f"#!/bin/sh\ntouch {tmp_path}/asked\n")
        (tmp_path / "bin" / command).chmod(0o755)
    bare = run_module("bedplate_infrastructure_probe", disk_path="/", machine=machine(tmp_path))["probe"]
    full = run_module("bedplate_infrastructure_probe", disk_path="/", machine=machine(TREES / "t4"))["probe"]
    assert bare.keys() == full.keys()
    assert (bare["gpus"], bare["nvidia_module"], bare["nvidia_smi"], bare["packages"]) == ([], None, None, {})
    assert not (tmp_path / "asked").exists()


def test_a_listening_port_is_told_with_its_process(run_module: ModuleRunner) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        probe = run_module("bedplate_infrastructure_probe", disk_path="/not/there/yet")["probe"]
    process = next(listener["process"] for listener in probe["listeners"] if listener["port"] == port)
    assert process == Path("/proc/self/comm").read_text().strip()
    assert probe["disk_free_bytes"] > 0
    assert probe["memory_bytes"] == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert probe["kernel"] == os.uname().release


@pytest.mark.parametrize(
    ("lines", "able"),
    [
        ("flags\t\t: fpu avx512f avx512_bf16 vaes\n", True),
        ("flags\t\t: fpu amx_bf16\n", True),
        ("flags\t\t: fpu avx512f\nbugs\t\t: avx512_bf16\n", False),
        ("Features\t: fp bf16\n", False),
    ],
)
def test_a_cpu_that_computes_in_bfloat16_is_told(tmp_path: Path, lines: str, able: bool) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\n{lines}")
    assert computes_bfloat16(tmp_path) is able
