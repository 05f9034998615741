"""Driver packages of a host as its package manager tells them. Runs on the target: standard library only, never writes."""

from __future__ import annotations

import re
from typing import Any

from ansible.module_utils.bedplate.machine import Machine

_DRIVER = re.compile(r"nvidia|cuda")
# dpkg's words for a package whose installation or removal was cut off.
_HALF = ("half-configured", "half-installed", "unpacked", "triggers-awaited", "triggers-pending", "reinst-required")
_DPKG = "${Package}\\t${db:Status-Want}\\t${db:Status-Status}\\t${Version}\\n"


def package_manager(machine: Machine) -> str | None:
    """apt, dnf or None."""
    return next((name for name, tool in (("apt", "dpkg-query"), ("dnf", "rpm")) if machine.which(tool)), None)


def driver_packages(machine: Machine, manager: str | None) -> dict[str, Any]:
    """packages {name: version} with nvidia or cuda in the name, half_configured and holds (any names)."""
    if manager == "apt":
        return _dpkg(machine)
    if manager == "dnf":
        return _rpm(machine)
    return {"packages": {}, "half_configured": [], "holds": []}


def _dpkg(machine: Machine) -> dict[str, Any]:
    packages, half, holds = {}, [], []
    for line in machine.ask(["dpkg-query", "-W", "-f", _DPKG]).out.splitlines():
        name, want, status, version = line.split("\t")
        if status == "installed" and _DRIVER.search(name):
            packages[name] = version
        if status in _HALF:
            half.append(name)
        if want == "hold":
            holds.append(name)
    return {"packages": packages, "half_configured": half, "holds": holds}


def _rpm(machine: Machine) -> dict[str, Any]:
    printed = machine.ask(["rpm", "-qa", "--qf", "%{NAME}\\t%{EVR}\\n"]).out
    rows = sorted(line.split("\t") for line in printed.splitlines() if _DRIVER.search(line.split("\t")[0]))
    # The plugin prints "nvidia-driver-3:580.95.05-1.el9.*"; what is not a package line is chatter.
    locked = re.findall(r"^!?([\w.+-]+?)-\d+:\S+$", machine.ask(["dnf", "-q", "versionlock", "list"]).out, re.MULTILINE)
    return {"packages": dict(rows), "half_configured": [], "holds": sorted(set(locked))}


def package_version(packages: dict[str, str], name: str) -> str | None:
    """The upstream version (580.95.05) of the first package whose name begins so, or None."""
    for package, version in sorted(packages.items()):
        found = re.search(r"\d{3}\.\d+(?:\.\d+)?", version) if package.startswith(name) else None
        if found:
            return found[0]
    return None


def cuda_compat(packages: dict[str, str]) -> dict[str, str] | None:
    """The newest forward-compatibility package (cuda-compat-13-0) with the version of its driver libraries, or None."""
    found = [name for name in packages if re.fullmatch(r"cuda-compat-\d+-\d+", name)]
    if not found:
        return None
    newest = max(found, key=lambda name: [int(part) for part in name.split("-")[2:]])
    return {"package": newest, "version": package_version(packages, newest) or packages[newest]}
