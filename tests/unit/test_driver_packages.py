"""Names and versions of driver packages: what is held, what is chosen, what must go, what apt is told."""

from __future__ import annotations

import pytest
from ansible.module_utils.bedplate.driver_packages import (
    branch_of,
    choose_version,
    is_driver_package,
    parse_madison,
    parse_simulation,
    pin_text,
    to_replace,
    upstream,
)


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("535.261.03-1~deb12u1", "535.261.03"), ("3:610.57.04-1.el9", "610.57.04"), ("580.95.05-0ubuntu0.24.04.1", "580.95.05"),
        ("525.53-1", "525.53"), ("20220217+3~deb12u1", None), ("6.8.0-90.91+1", None), ("1.2.2", None),
    ],
)  # fmt: skip
def test_the_drivers_version_is_read_out_of_a_packages(text: str, version: str | None) -> None:
    assert upstream(text) == version
    assert branch_of(text) == (int(version.split(".")[0]) if version else None)


@pytest.mark.parametrize(
    "name",
    [
        "nvidia-kernel-dkms", "libcuda1", "libcuda1:i386", "firmware-nvidia-gsp", "linux-modules-nvidia-580-server-6.8.0-90-generic",
        "nvidia-legacy-check", "cuda-drivers-580", "xserver-xorg-video-nvidia", "nvidia-fabricmanager-580", "nvidia-driver-pinning-595",
    ],
)  # fmt: skip
def test_every_part_of_a_driver_is_held(name: str) -> None:
    assert is_driver_package(name)


@pytest.mark.parametrize(
    "name",
    [
        "nvidia-container-toolkit",
        "libnvidia-container1",
        "nvidia-cuda-toolkit",
        "cuda-compat-13-0",
        "linux-image-amd64",
        "dkms",
    ],
)
def test_what_is_no_driver_is_not_held(name: str) -> None:
    assert not is_driver_package(name)


def test_the_newest_version_that_all_packages_have_is_taken() -> None:
    security = ["535.309.01-0+deb12u1", "535.261.03-1"]
    assert choose_version({"nvidia-kernel-dkms": security, "libcuda1": security}, 535, None, None) == "535.309.01"
    # Debian's open modules have no security update yet.
    open_set = {"nvidia-open-kernel-dkms": ["535.261.03-1"], "libcuda1": security}
    assert choose_version(open_set, 535, None, None) == "535.261.03"
    assert choose_version(open_set, 535, "535.309.01", None) is None
    assert choose_version(open_set, 535, None, "535.300") is None


def test_a_transitional_package_of_a_newer_branch_is_not_taken() -> None:
    offered = {"nvidia-dkms-535-server": ["580.178.04-0ubuntu0.24.04.1"]}
    assert choose_version(offered, 535, None, None) is None
    assert choose_version({}, 535, None, None) is None


def test_versions_compare_as_numbers() -> None:
    assert choose_version({"a": ["570.86.15-1", "570.124.06-1", "570.26-1"]}, 570, None, None) == "570.124.06"


def test_the_old_driver_goes_and_what_has_a_version_of_its_own_stays() -> None:
    installed = {
        "nvidia-tesla-470-kernel-dkms": "470.256.02-1~deb12u1", "libnvidia-tesla-470-cuda1": "470.256.02-1~deb12u1",
        "nvidia-tesla-470-alternative": "470.256.02-1~deb12u1", "nvidia-persistenced": "535.171.04-1~deb12u1",
        "nvidia-support": "20220217+3~deb12u1", "dkms": "3.0.10-8", "nvidia-container-toolkit": "1.18.2-1",
    }  # fmt: skip
    gone = to_replace(installed, {"nvidia-kernel-dkms": "535.261.03-1"}, "535.261.03")
    assert gone == ["libnvidia-tesla-470-cuda1", "nvidia-tesla-470-alternative", "nvidia-tesla-470-kernel-dkms"]
    assert to_replace(installed, {}, "470.256.02") == []


def test_apts_own_words_are_read() -> None:
    madison = (
        " libcuda1 | 535.309.01-0+deb12u1 | http://mirror/security bookworm-security/non-free amd64 Packages\n"
        " libcuda1 | 535.261.03-1 | http://mirror/debian bookworm/non-free amd64 Packages\n"
        " libcuda1 | 535.261.03-1 | http://mirror/debian bookworm/non-free Sources\n"
    )
    assert parse_madison(madison) == {"libcuda1": ["535.309.01-0+deb12u1", "535.261.03-1"]}
    simulated = (
        "Remv nvidia-tesla-470-smi [470.256.02-1]\nInst libcuda1 [1.0] (535.261.03-1 Debian:12 [amd64]) []\n"
        "Inst nvidia-smi (535.261.03-1 Debian:12 [amd64])\nConf nvidia-smi (535.261.03-1 Debian:12 [amd64])\n"
    )
    assert parse_simulation(simulated) == {
        "nvidia-tesla-470-smi": None,
        "libcuda1": "535.261.03-1",
        "nvidia-smi": "535.261.03-1",
    }


def test_the_pin_holds_the_exact_version_and_the_helpers_theirs() -> None:
    text = pin_text("535.261.03", {"nvidia-persistenced": "535.171.04-1~deb12u1"})
    assert r"Pin: version /^([0-9]+:)?535\.261\.03[-+~]/" in text
    assert "Package: nvidia-persistenced\nPin: version 535.171.04-1~deb12u1\n" in text
    assert text.count("Pin-Priority: 1001") == 2
