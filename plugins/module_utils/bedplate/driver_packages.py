"""Names and versions of driver packages: pure functions, shared by the role's decision and its module on the server."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

# A driver's own version within a package's: 535.261.03-1~deb12u1, 3:610.57.04-1.el9, 580.95.05-0ubuntu0.24.04.1.
_UPSTREAM = re.compile(r"^(?:\d+:)?(\d{3}\.\d+(?:\.\d+)?)(?![\d.])")
_DRIVER_NAME = re.compile(r"nvidia|^libcuda(1|debugger1)$|^cuda-drivers|^libnvsdm|^libxnvctrl")
# Packages with NVIDIA in their name that are no part of a driver.
_OTHER_NAME = re.compile(
    r"nvidia-container|nvidia-cuda-(?!mps)|nvidia-cudnn|nvidia-cg-|nvidia-fs|^cuda-compat|-dev$|-doc$"
)


@dataclass(frozen=True)
class PackageSet:
    """The packages of one driver.

    versioned: carry the driver's version, the first one defines it. helpers: go by versions of their own. first: installed
    before the others in a transaction of their own. rivals: must go (the other flavour). prebuilt: modules made for one kernel,
    signed by the distribution, instead of DKMS.
    """

    versioned: list[str]
    helpers: list[str] = field(default_factory=list)
    first: list[str] = field(default_factory=list)
    rivals: list[str] = field(default_factory=list)
    headers: list[str] = field(default_factory=list)
    prebuilt: bool = False
    stream: str | None = None


def upstream(package_version: str) -> str | None:
    """'535.261.03' of '535.261.03-1~deb12u1'; None for a package with a version of its own kind."""
    found = _UPSTREAM.match(package_version)
    return found[1] if found else None


def branch_of(driver_version: str) -> int | None:
    """580 of '580.95.05' or of a package's version; None if it is none."""
    found = upstream(driver_version)
    return int(found.split(".")[0]) if found else None


def sort_key(driver_version: str) -> tuple[int, ...]:
    """Versions compare field by field as integers."""
    return tuple(int(number) for number in driver_version.split("."))


def is_driver_package(name: str) -> bool:
    """Whether a package belongs to a driver, so that it is held and kept with it."""
    bare = name.split(":")[0]
    return bool(_DRIVER_NAME.search(bare)) and not _OTHER_NAME.search(bare)


def source_branches(source: Mapping[str, Any], fabric: bool = False, flavour: str | None = None) -> list[int]:
    """The branches a package source has, newest first; with fabric those with a Fabric Manager, with flavour those in it."""
    return sorted(
        {
            int(branch)
            for entry in source["sets"]
            for branch in entry["branches"]
            if (not fabric or entry.get("fabric_manager")) and (flavour is None or flavour in entry["modules"])
        },
        reverse=True,
    )


def package_set(
    source: Mapping[str, Any], branch: int, flavour: str, probe: Mapping[str, Any], fabric: bool
) -> PackageSet:
    """The packages of a branch and flavour as a source names them (vars/<Distro>_<major>.yml), for this host."""
    entry = next(one for one in source["sets"] if branch in [int(number) for number in one["branches"]])
    kernel = str(probe.get("kernel") or "")
    words = {"branch": branch, "kernel": kernel, "kernel_flavour": kernel.rsplit("-", 1)[-1], "flavour": flavour}
    signed = entry.get("signed", {}) if probe.get("secure_boot") else {}

    def named(names: Sequence[str] | None) -> list[str]:
        return [name.format(**words) for name in names or []]

    modules = named(entry["modules"][flavour])
    rivals = [name for other in entry["modules"] if other != flavour for name in named(entry["modules"][other])]
    prebuilt = flavour in signed
    if prebuilt:
        # What DKMS would build is in the way of what comes signed.
        rivals, modules = [*rivals, *modules], []
    return PackageSet(
        versioned=[*modules, *named(entry["libraries"]), *(named(entry["fabric_manager"]) if fabric else [])],
        helpers=[*(named(signed[flavour]) if prebuilt else []), *named(entry.get("helpers"))],
        first=named(entry.get("first")),
        rivals=rivals,
        headers=[] if prebuilt or probe.get("headers") else named(source.get("headers")),
        prebuilt=prebuilt,
        stream=entry["streams"][flavour].format(**words) if "streams" in entry else None,
    )


def choose_version(
    offered: Mapping[str, Iterable[str]], branch: int, exact: str | None, at_least: str | None
) -> str | None:
    """The newest driver version of a branch that every package has, or the exact one; None if there is none.

    offered: package -> its versions in the repositories. Debian publishes a security update of one package before the other:
    what only some packages have cannot be installed.
    """
    common: set[str] | None = None
    for versions in offered.values():
        found = {one for one in (upstream(text) for text in versions) if one and branch_of(one) == branch}
        common = found if common is None else common & found
    floor = sort_key(at_least) if at_least else ()
    fitting = [one for one in common or () if (exact is None or one == exact) and sort_key(one) >= floor]
    return max(fitting, key=sort_key, default=None)


def parse_madison(text: str) -> dict[str, list[str]]:
    """`apt-cache madison` -> package: versions in the repositories."""
    offered: dict[str, list[str]] = {}
    for line in text.splitlines():
        name, separator, rest = line.partition("|")
        package_version, _, origin = rest.partition("|")
        if separator and origin.strip().endswith("Packages"):
            offered.setdefault(name.strip(), []).append(package_version.strip())
    return offered


def parse_simulation(text: str) -> dict[str, str | None]:
    """`apt-get -s` -> what it would touch: package: version it would get, None if it would be removed."""
    touched: dict[str, str | None] = {}
    for line in text.splitlines():
        words = line.split()
        if words[:1] == ["Inst"]:
            found = re.search(r"\((\S+)", line)
            touched[words[1]] = found[1] if found else ""
        elif words[:1] in (["Remv"], ["Purg"]):
            touched[words[1]] = None
    return touched


def to_replace(installed: Mapping[str, str], touched: Iterable[str], wanted: str) -> list[str]:
    """Installed packages of another driver version that the new one neither replaces nor needs: they go with it.

    Packages with versions of their own kind (nvidia-support, nvidia-persistenced on Debian) stay.
    """
    cores = {
        upstream(text)
        for name, text in installed.items()
        if re.search(r"dkms|kernel-source|libcuda|libnvidia.*(ml1|compute|cuda1)|nvidia-smi|-smi$", name)
    } - {None, wanted}
    kept = set(touched)
    return sorted(
        name
        for name, text in installed.items()
        if is_driver_package(name) and upstream(text) in cores and name not in kept
    )


def pin_text(driver_version: str, helpers: Mapping[str, str]) -> str:
    """An apt preferences file: every driver package that exists in this version has it, and the helpers theirs."""
    # A pattern between slashes: apt does not match a leading * in a version, and an epoch may stand before it.
    any_revision = f"/^([0-9]+:)?{re.escape(driver_version)}[-+~]/"
    stanzas = [("*nvidia* libcuda1 libcudadebugger1 cuda-drivers* libnvsdm*", any_revision)]
    stanzas += sorted(helpers.items())
    return "\n".join(
        [
            "# Written by Bedplate (role nvidia_driver): the driver changes only with playbooks/upgrade_driver.yml.",
            *(f"Package: {names}\nPin: version {wanted}\nPin-Priority: 1001\n" for names, wanted in stanzas),
        ]
    )
