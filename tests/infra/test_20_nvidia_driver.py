"""On a GPU server module, libraries and receipt name one driver, held as the receipt says; a CPU host has none."""

from __future__ import annotations

import re
from typing import Any

import pytest

DRIVER_PACKAGE = re.compile(r"nvidia|cuda")


@pytest.fixture(scope="module")
def driver(receipt: dict[str, Any]) -> dict[str, Any]:
    """The receipt's driver; a test of it is nothing for a host that has none."""
    section: dict[str, Any] = receipt["nvidia_driver"]
    if not section.get("version"):
        pytest.skip("no driver of Bedplate's on this host")
    return section


def libraries(host: Any) -> set[str]:
    """Versions of libcuda and libnvidia-ml: of what the loader's links lead to, else of the files."""
    listed = host.run(
        "for lib in libcuda.so libnvidia-ml.so; do "
        "found=$(ls -d /usr/lib/*-linux-gnu/$lib.1 /usr/lib64/$lib.1 /usr/lib/$lib.1 2>/dev/null | head -n 1); "
        'if [ "$found" ]; then readlink -f "$found"; else ls /usr/lib/*-linux-gnu/$lib.*.* /usr/lib64/$lib.*.* 2>/dev/null; fi; '
        "done; true"
    ).stdout
    return set(re.findall(r"\.so\.(\d{3}\.\d+(?:\.\d+)?)$", listed, re.MULTILINE))


def unit(host: Any, name: str) -> dict[str, str]:
    shown = host.check_output(f"systemctl show -p LoadState,ActiveState,UnitFileState {name}")
    return dict(line.split("=", 1) for line in shown.splitlines())


def test_a_host_without_a_driver_has_no_gpu_or_computes_on_the_cpu(receipt: dict[str, Any]) -> None:
    if not receipt["nvidia_driver"].get("version"):
        assert not receipt["preflight"]["gpus"] or receipt["cuda_match"]["variant"] == "cpu"


def test_loaded_module_is_the_one_in_the_receipt(host: Any, machine: dict[str, str], driver: dict[str, Any]) -> None:
    loaded = host.file(f"{machine['proc']}/driver/nvidia/version").content_string
    assert re.search(rf"\s{re.escape(driver['version'])}\s", loaded)
    assert ("Open Kernel Module" in loaded) == (driver["flavour"] == "open")


def test_libraries_have_the_version_of_the_module(host: Any, driver: dict[str, Any]) -> None:
    assert libraries(host) == {driver["version"]}


def test_nvidia_smi_shows_every_gpu_with_this_driver(
    host: Any, machine: dict[str, str], driver: dict[str, Any], receipt: dict[str, Any]
) -> None:
    asked = host.run(f'PATH="{machine["path"]}:$PATH" nvidia-smi -q -x')
    assert asked.rc == 0, asked.stdout
    assert f"<driver_version>{driver['version']}</driver_version>" in asked.stdout
    assert asked.stdout.count("<gpu id=") == len(receipt["preflight"]["gpus"])


def test_nouveau_is_not_loaded_and_cuda_finds_its_devices(
    host: Any, machine: dict[str, str], driver: dict[str, Any]
) -> None:
    assert not re.search(r"^nouveau ", host.file(f"{machine['proc']}/modules").content_string, re.MULTILINE)
    for node in ("nvidiactl", "nvidia-uvm", "nvidia0"):
        assert host.file(f"{machine['dev']}/{node}").exists, node


def test_no_upgrade_touches_a_held_driver(host: Any, driver: dict[str, Any]) -> None:
    if not driver.get("held"):
        pytest.skip("the receipt does not say held")
    if host.exists("apt-mark"):
        held = set(host.check_output("apt-mark showhold").split())
        assert set(driver["packages"]) <= held
        planned = host.check_output("apt-get -s -o Debug::NoLocking=1 dist-upgrade")
        moved = [
            name for name in re.findall(r"^(?:Inst|Remv) (\S+)", planned, re.MULTILINE) if DRIVER_PACKAGE.search(name)
        ]
        assert moved == []
    else:
        locked = host.check_output("dnf -q versionlock list")
        assert all(name in locked for name in driver["packages"])


def test_installed_packages_are_those_of_the_receipt(host: Any, driver: dict[str, Any]) -> None:
    for name, version in (driver.get("packages") or {}).items():
        assert host.package(name).is_installed, name
        assert version in (host.package(name).version, f"{host.package(name).version}-{host.package(name).release}"), (
            name
        )


def test_persistenced_keeps_the_gpus_ready(host: Any, variables: dict[str, Any], driver: dict[str, Any]) -> None:
    state = unit(host, "nvidia-persistenced")
    if not variables.get("nvidia_driver_persistenced", True) or state["LoadState"] == "not-found":
        pytest.skip("not wanted, or this driver came without it")
    assert state["ActiveState"] == "active"


def test_fabric_manager_runs_in_the_drivers_version_where_there_are_switches(
    host: Any, machine: dict[str, str], driver: dict[str, Any]
) -> None:
    if not driver.get("fabric_manager"):
        pytest.skip("no NVSwitch, or not wanted")
    assert unit(host, "nvidia-fabricmanager")["ActiveState"] == "active"
    said = host.check_output(f'PATH="{machine["path"]}:$PATH" nv-fabricmanager --version')
    assert re.findall(r"\d{3}\.\d+(?:\.\d+)?", said)[:1] == [driver["version"]]
