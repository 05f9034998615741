"""Which driver a host gets: the packages of every distribution, source, branch and flavour, and every refusal before a change."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.bedplate.driver_plan import in_use_problems, plan_host

from tests.fixtures.machine import TREES

VARS = Path(__file__).resolve().parents[2] / "roles" / "nvidia_driver" / "vars"
WANT = {
    "policy": "required", "source": "auto", "branch": "auto", "version": "", "flavour": "auto", "fabric_manager": "auto",
    "variant": "auto",
}  # fmt: skip
A100, V100, K80, B200, P40 = "10de:20b5", "10de:1db1", "10de:102d", "10de:2901", "10de:1b38"


def sources(family: str, distribution: str, major: str) -> dict[str, Any]:
    """The package sources of a distribution, from the role's own vars, read as the role reads them."""
    merged: dict[str, Any] = {}
    for name in ("main", family, distribution, f"{family}_{major}", f"{distribution}_{major}"):
        path = VARS / f"{name}.yml"
        merged |= yaml.safe_load(path.read_text()) if path.exists() else {}

    def filled(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: filled(one) for key, one in value.items()}
        if isinstance(value, list):
            return [filled(one) for one in value]
        if isinstance(value, str) and (found := re.fullmatch(r"{{ (\w+)(?: \| (.*))? }}", value)):
            combined = re.search(r"combine\({'branches': (\[.*?\])}\)", found[2] or "")
            more = {"branches": yaml.safe_load(combined[1])} if combined else {}
            base = filled(merged[found[1]])
            return {**base, **more} if more else base
        return value

    result: dict[str, Any] = filled(merged["__nvidia_driver_sources"])
    return result


DEBIAN12, DEBIAN13 = sources("Debian", "Debian", "12"), sources("Debian", "Debian", "13")
UBUNTU22, UBUNTU24 = sources("Debian", "Ubuntu", "22"), sources("Debian", "Ubuntu", "24")
ROCKY9 = sources("RedHat", "Rocky", "9")


def bare(*pci_ids: str, **changed: Any) -> dict[str, Any]:
    """A server with these GPUs and no driver."""
    gpus = [
        {"address": f"0000:{n:02x}:00.0", "pci_id": pci_id, "name": None} for n, pci_id in enumerate(pci_ids or [A100])
    ]
    nothing = dict.fromkeys(
        ("nvidia_module", "nvidia_module_on_disk", "nvidia_userspace", "nvidia_smi", "secure_boot", "last_xid")
    )
    rest = {
        "nvswitches": [],
        "packages": {},
        "headers": False,
        "kernel": "6.1.0-41-amd64",
        "dkms": [],
        "failure_signatures": [],
    }
    return {**nothing, **rest, "gpus": gpus, "nouveau": {"loaded": False, "blacklisted": False}, **changed}


def plan(
    probe: dict[str, Any], table: dict[str, Any], change: bool = False, receipt: Any = None, **want: Any
) -> dict[str, Any]:
    result: dict[str, Any] = plan_host(probe, {**WANT, **want}, table, receipt or {}, change)
    return result


@pytest.mark.parametrize(
    ("table", "gpu", "want", "source", "branch", "flavour", "kernel_package"),
    [
        (DEBIAN12, A100, {}, "nvidia", "580", "open", "nvidia-kernel-open-dkms"),
        (DEBIAN12, V100, {}, "nvidia", "580", "proprietary", "nvidia-kernel-dkms"),
        (DEBIAN12, K80, {}, "distribution", "470", "proprietary", "nvidia-tesla-470-kernel-dkms"),
        (DEBIAN12, A100, {"source": "distribution"}, "distribution", "535", "proprietary", "nvidia-kernel-dkms"),
        (DEBIAN12, A100, {"branch": "535", "flavour": "open"}, "distribution", "535", "open", "nvidia-open-kernel-dkms"),
        (DEBIAN12, A100, {"branch": "470"}, "distribution", "470", "proprietary", "nvidia-tesla-470-kernel-dkms"),
        (DEBIAN12, A100, {"branch": "595"}, "nvidia", "595", "open", "nvidia-kernel-open-dkms"),
        (DEBIAN12, A100, {"version": "535.261.03"}, "distribution", "535", "proprietary", "nvidia-kernel-dkms"),
        (DEBIAN13, A100, {"source": "distribution"}, "distribution", "550", "proprietary", "nvidia-kernel-dkms"),
        (DEBIAN13, A100, {"branch": "535"}, "distribution", "535", "proprietary", "nvidia-tesla-535-kernel-dkms"),
        (DEBIAN13, A100, {"branch": "620"}, "nvidia", "620", "open", "nvidia-kernel-open-dkms"),
        (UBUNTU22, A100, {}, "distribution", "580", "open", "nvidia-dkms-580-server-open"),
        (UBUNTU22, V100, {}, "distribution", "580", "proprietary", "nvidia-dkms-580-server"),
        (UBUNTU22, B200, {}, "distribution", "580", "open", "nvidia-dkms-580-server-open"),
        (UBUNTU24, K80, {}, "distribution", "470", "proprietary", "nvidia-dkms-470-server"),
        (UBUNTU24, A100, {"source": "nvidia"}, "nvidia", "580", "open", "nvidia-dkms-580-open"),
        (UBUNTU24, A100, {"source": "nvidia", "branch": "595"}, "nvidia", "595", "open", "nvidia-dkms-open"),
        (ROCKY9, A100, {}, "nvidia", "580", "open", "kmod-nvidia-open-dkms"),
        (ROCKY9, V100, {}, "nvidia", "580", "proprietary", "kmod-nvidia-latest-dkms"),
    ],
)  # fmt: skip
def test_a_bare_server_gets_the_driver_of_its_gpus_from_the_right_source(
    table: dict[str, Any], gpu: str, want: dict[str, str], source: str, branch: str, flavour: str, kernel_package: str
) -> None:
    found = plan(bare(gpu), table, **want)
    assert found["problems"] == []
    assert (found["action"], found["source"], found["branch"], found["flavour"]) == ("ensure", source, branch, flavour)
    assert found["packages"]["versioned"][0] == kernel_package


def test_the_other_flavour_and_missing_headers_belong_to_the_set_and_no_display_does() -> None:
    packages = plan(bare(), DEBIAN12, source="distribution")["packages"]
    assert packages["rivals"] == ["nvidia-open-kernel-dkms"]
    assert packages["headers"] == ["linux-headers-6.1.0-41-amd64"]
    names = [*packages["versioned"], *packages["helpers"]]
    assert not [name for name in names if re.search("xserver|glx|egl|vulkan|settings", name)]
    assert plan(bare(headers=True), DEBIAN12, source="distribution")["packages"]["headers"] == []


def test_from_590_on_the_pinning_package_goes_first() -> None:
    assert plan(bare(), DEBIAN12, branch="595")["packages"]["first"] == ["nvidia-driver-pinning-595"]
    assert plan(bare(), DEBIAN12, branch="580")["packages"]["first"] == []


def test_a_dnf_host_gets_a_fixed_stream() -> None:
    assert plan(bare(), ROCKY9)["packages"]["stream"] == "580-open"
    assert plan(bare(V100), ROCKY9)["packages"]["stream"] == "580-dkms"


def test_under_secure_boot_ubuntu_takes_modules_it_has_signed() -> None:
    packages = plan(bare(secure_boot=True, kernel="6.8.0-90-generic"), UBUNTU24)["packages"]
    assert packages["prebuilt"] and packages["headers"] == []
    assert "linux-modules-nvidia-580-server-open-6.8.0-90-generic" in packages["helpers"]
    assert "nvidia-dkms-580-server-open" in packages["rivals"]
    assert not plan(bare(secure_boot=True), DEBIAN12)["packages"]["prebuilt"]


@pytest.mark.parametrize(("table", "source"), [(UBUNTU22, "distribution"), (DEBIAN12, "nvidia"), (ROCKY9, "nvidia")])
def test_nvswitches_bring_the_fabric_manager_with_the_drivers_version(table: dict[str, Any], source: str) -> None:
    found = plan(bare(nvswitches=[{"address": "0000:05:00.0", "pci_id": "10de:22a3"}]), table)
    assert (found["source"], found["fabric_manager"]) == (source, True)
    assert [name for name in found["packages"]["versioned"] if "fabric" in name]
    assert not plan(bare(), table)["fabric_manager"]


def test_debian_alone_cannot_serve_nvswitches() -> None:
    (problem,) = plan(bare(nvswitches=[{"address": "x", "pci_id": "10de:22a3"}]), DEBIAN12, source="distribution")[
        "problems"
    ]
    assert problem.startswith("BP122") and "Fabric Manager" in problem


@pytest.mark.parametrize(
    ("gpus", "want", "code", "cause"),
    [
        ([V100], {"flavour": "open"}, "BP121", "nvidia_driver_flavour=open, wanted the proprietary modules"),
        ([B200], {"flavour": "proprietary"}, "BP121", "the open modules"),
        ([V100], {"branch": "595"}, "BP121", "nvidia_driver_branch=595"),
        ([B200], {"branch": "535"}, "BP121", "nvidia_driver_branch=535"),
        ([A100], {"branch": "470", "flavour": "open"}, "BP121", "a flavour that R470 has"),
        ([A100], {"branch": "580", "version": "535.261.03"}, "BP121", "a version of that branch"),
        ([A100], {"branch": "newest"}, "BP121", "a number such as 580"),
        ([A100], {"version": "latest"}, "BP121", "a driver version such as"),
        ([A100], {"branch": "470", "variant": "cu130"}, "BP121", "pytorch_variant=cu130"),
        ([A100], {"source": "distribution", "branch": "580"}, "BP122", "distribution: R535, R470"),
        ([A100], {"source": "existing"}, "BP120", "found none, wanted a loaded driver"),
        (["10de:ffff"], {}, "BP124", "unknown GPU"),
        ([P40, B200], {}, "BP124", "a common driver"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused_before_anything_is_changed(
    gpus: list[str], want: dict[str, str], code: str, cause: str
) -> None:
    found = plan(bare(*gpus), DEBIAN12, **want)
    assert found["action"] == "none"
    (problem,) = found["problems"]
    assert problem.startswith(code) and cause in problem and "Fix: " in problem


def test_an_unknown_gpu_gets_the_driver_the_inventory_names() -> None:
    found = plan(bare("10de:ffff"), UBUNTU24, branch="595", flavour="open")
    assert (found["problems"], found["branch"], found["source"]) == ([], "595", "distribution")


def recorded(tree: str, **changed: Any) -> dict[str, Any]:
    return {**yaml.safe_load((TREES / tree / "host.yml").read_text())["probe"], **changed}


def test_a_cpu_host_and_an_ignored_gpu_are_left_alone() -> None:
    assert plan({**bare(), "gpus": []}, {})["action"] == "none"
    assert plan(bare(), DEBIAN12, policy="ignore") == {
        **plan({**bare(), "gpus": []}, {}),
        "why": plan(bare(), DEBIAN12, policy="ignore")["why"],
    }


def test_a_loaded_driver_that_serves_is_kept_and_ours_is_completed() -> None:
    assert plan(recorded("a100-535"), DEBIAN12)["action"] == "keep"
    ours = plan(
        recorded("a100-535"),
        DEBIAN12,
        receipt={"version": recorded("a100-535")["nvidia_module"]["version"], "source": "distribution"},
    )
    assert (ours["action"], ours["source"], ours["branch"], ours["problems"]) == ("ensure", "distribution", "535", [])


def test_a_driver_of_nvidias_installer_is_kept_even_if_it_does_not_run() -> None:
    found = plan(recorded("a100-535", nvidia_module=None, packages={}), DEBIAN12)
    assert (found["action"], found["source"], found["problems"]) == ("keep", "existing", [])


@pytest.mark.parametrize("want", [{"branch": "580"}, {"version": "535.999.01"}, {"variant": "cu130"}])
def test_another_driver_than_wished_for_is_changed_only_deliberately(want: dict[str, str]) -> None:
    (problem,) = plan(recorded("a100-535"), DEBIAN12, **want)["problems"]
    assert problem.startswith("BP123") and "upgrade_driver.yml" in problem
    changed = plan(recorded("a100-535"), DEBIAN12, change=True, **want)
    assert (changed["action"], changed["problems"]) == ("ensure", [])
    assert changed["replaces"] == recorded("a100-535")["nvidia_module"]["version"]


def test_a_driver_at_odds_with_the_gpus_alone_is_told_by_the_truth_check() -> None:
    (problem,) = plan(recorded("wrong-flavour"), UBUNTU22)["problems"]
    assert problem.startswith("BP133")


def test_who_uses_the_gpu_is_named_and_our_own_daemons_are_not_meant() -> None:
    users = [{"pid": 812, "name": "nvidia-persistenced"}, {"pid": 4242, "name": "/usr/bin/python3"}]
    (problem,) = in_use_problems(bare(device_users=users, compute_processes=users[1:]))
    assert problem.startswith("BP127") and "4242" in problem and "812" not in problem
    assert in_use_problems(bare(device_users=users[:1])) == []
