"""The server is one Bedplate supports, and the receipt says what it is."""

from __future__ import annotations

from typing import Any


def test_systemd_runs_the_server(host: Any) -> None:
    assert host.file("/proc/1/comm").content_string.strip() == "systemd"


def test_receipt_names_this_operating_system(host: Any, receipt: dict[str, Any]) -> None:
    said = receipt["preflight"]["distribution"].lower()
    assert said.startswith(host.system_info.distribution)
    assert host.system_info.release.split(".")[0] in said


def test_receipt_lists_the_gpus_on_the_pci_bus(host: Any, machine: dict[str, str], receipt: dict[str, Any]) -> None:
    # 0x10de is NVIDIA, class 0x03 a display controller.
    found = host.run(
        f"for d in {machine['sys']}/bus/pci/devices/*; do "
        '[ "$(cat $d/vendor)" = 0x10de ] && grep -q ^0x03 $d/class && sed s/^0x/10de:/ $d/device; done; true'
    ).stdout.split()
    assert receipt["preflight"]["gpus"] == found


def test_receipt_is_readable_by_all_and_writable_by_root_alone(host: Any) -> None:
    fact = host.file("/etc/ansible/facts.d/bedplate.fact")
    assert (fact.user, fact.mode) == ("root", 0o644)
