"""What the recorded trees do not show of the probe: other package managers, Debian's alternatives, old or stuck commands."""

from __future__ import annotations

from pathlib import Path

import yaml
from ansible.module_utils.bedplate.drivermodule import dkms, module_on_disk, nouveau, user_space
from ansible.module_utils.bedplate.gpus import described_gpus
from ansible.module_utils.bedplate.kernellog import SIGNATURES, failure_signatures, kernel_log, last_xid
from ansible.module_utils.bedplate.machine import Machine
from ansible.module_utils.bedplate.packages import cuda_compat, driver_packages

from tests.unit.conftest import ROOT


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def command(root: Path, name: str, script: str) -> Machine:
    """A machine whose command of this name is a shell script."""
    write(root / "bin" / name, f"#!/bin/sh\n{script}\n")
    (root / "bin" / name).chmod(0o755)
    return Machine(proc=root / "proc", sys=root / "sys", dev=root / "dev", path=f"{root}/bin", root=root)


def test_rpm_packages_and_version_locks_are_read(tmp_path: Path) -> None:
    command(
        tmp_path, "dnf", "echo 'nvidia-driver-3:580.95.05-1.el9.*'; echo 'kmod-nvidia-open-dkms-3:580.95.05-1.el9.*'"
    )
    machine = command(tmp_path, "rpm", r"printf 'bash\t5.1.8-9.el9\nnvidia-driver\t3:580.95.05-1.el9\n'")
    assert driver_packages(machine, "dnf") == {
        "packages": {"nvidia-driver": "3:580.95.05-1.el9"},
        "half_configured": [],
        "holds": ["kmod-nvidia-open-dkms", "nvidia-driver"],
    }


def test_packages_cut_off_in_the_middle_and_holds_are_told_apart(tmp_path: Path) -> None:
    rows = r"a\thold\tinstalled\t1\nlibcuda1\tinstall\thalf-configured\t2\nnvidia-smi\tdeinstall\tconfig-files\t3\n"
    found = driver_packages(command(tmp_path, "dpkg-query", f"printf '{rows}'"), "apt")
    assert found == {"packages": {}, "half_configured": ["libcuda1"], "holds": ["a"]}


def test_debians_choice_of_a_driver_decides_which_module_is_on_disk(tmp_path: Path) -> None:
    write(tmp_path / "etc/modprobe.d/nvidia.conf", "install nvidia modprobe -i nvidia-tesla-470 $CMDLINE_OPTS\n")
    script = 'test "$*" = "-k 6.1.0-41-amd64 nvidia-tesla-470" && printf "version: 470.256.02\\nlicense: NVIDIA\\n"'
    assert module_on_disk(command(tmp_path, "modinfo", script), "6.1.0-41-amd64") == {
        "version": "470.256.02",
        "flavour": "proprietary",
        "kernel": "6.1.0-41-amd64",
        "signer": None,
    }


def test_the_loaders_link_decides_between_two_installed_drivers(tmp_path: Path) -> None:
    libraries = tmp_path / "usr/lib/x86_64-linux-gnu"
    for folder, version in (("tesla-470", "470.256.02"), ("current", "535.261.03")):
        for library in ("libcuda.so", "libnvidia-ml.so"):
            write(libraries / "nvidia" / folder / f"{library}.{version}", "")
    for library in ("libcuda.so", "libnvidia-ml.so"):
        (libraries / f"{library}.1").symlink_to(f"nvidia/tesla-470/{library}.470.256.02")
    assert user_space(tmp_path) == {"version": "470.256.02", "libcuda": "470.256.02", "libnvidia_ml": "470.256.02"}


def test_dkms_lines_of_both_its_generations_are_read(tmp_path: Path) -> None:
    lines = "nvidia/580.95.05: added\\nnvidia, 535.1.2, 5.15.0-1-generic, x86_64: installed\\nzfs/2.1, 6.1, x86_64: built\\n"
    assert dkms(command(tmp_path, "dkms", f"printf '{lines}'")) == [
        {"module": "nvidia", "version": "580.95.05", "kernel": None, "state": "added"},
        {"module": "nvidia", "version": "535.1.2", "kernel": "5.15.0-1-generic", "state": "installed"},
    ]


def test_nouveau_can_be_kept_away_by_the_kernels_command_line(tmp_path: Path) -> None:
    write(tmp_path / "proc/cmdline", "ro quiet modprobe.blacklist=pcspkr,nouveau\n")
    assert nouveau(Machine(proc=tmp_path / "proc", root=tmp_path)) == {"loaded": False, "blacklisted": True}


def test_a_journal_that_cannot_search_is_replaced_by_dmesg(tmp_path: Path) -> None:
    command(tmp_path, "journalctl", "echo 'Compiled without pattern matching support' >&2; exit 1")
    machine = command(tmp_path, "dmesg", "echo '[ 9.1] NVRM: Xid (PCI:0000:17:00): 31, pid=7, name=python, MMU Fault'")
    assert last_xid(kernel_log(machine)) == {
        "code": 31,
        "text": "Xid (PCI:0000:17:00): 31, pid=7, name=python, MMU Fault",
    }


def test_the_lines_looked_for_are_those_the_data_explains() -> None:
    data = yaml.safe_load((ROOT / "plugins/module_utils/stack/data/drivers.yml").read_text())["failure_signatures"]
    from_the_kernel = [row["text"] for row in data if not row["text"].startswith(("NVIDIA-SMI", "No devices"))]
    assert sorted(SIGNATURES) == sorted(from_the_kernel)
    assert failure_signatures([f"NVRM: GPU 0: {SIGNATURES[-1]}! (0x26:0x56:1463)"]) == [SIGNATURES[-1]]


def test_a_command_that_hangs_is_given_up_and_told(tmp_path: Path) -> None:
    answer = command(tmp_path, "nvidia-smi", "exec sleep 30").ask(["nvidia-smi"], timeout=0.2)
    assert answer.rc == 124 and "did not answer" in answer.err


def test_a_broken_answer_of_nvidia_smi_leaves_the_gpus_of_the_bus(tmp_path: Path) -> None:
    for name, text in (("vendor", "0x10de"), ("device", "0x2330"), ("class", "0x030200")):
        write(tmp_path / "sys/bus/pci/devices/0000:17:00.0" / name, text + "\n")
    found = described_gpus(command(tmp_path, "nvidia-smi", "echo '<nvidia_smi_log><gpu id='; exit 0"))
    assert [(gpu["address"], gpu["name"]) for gpu in found["gpus"]] == [("0000:17:00.0", None)]
    assert found["nvidia_smi"]["driver"] is None and found["nvidia_smi"]["message"]


def test_of_several_compat_packages_the_newest_counts() -> None:
    packages = {"cuda-compat-12-9": "575.57.08-1", "cuda-compat-13-0": "580.95.05-0ubuntu1", "cuda-compat": "1"}
    assert cuda_compat(packages) == {"package": "cuda-compat-13-0", "version": "580.95.05"}
