"""The NVIDIA driver of a host: the module in the kernel, the module on disk, the user-space libraries, and what blocks them.

Runs on the target: standard library only, Python 3.9 or newer, never writes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ansible.module_utils.bedplate.hostfacts import read_text
from ansible.module_utils.bedplate.machine import Machine

_VERSION = r"(\d{3}\.\d+(?:\.\d+)?)"
# Where distributions and NVIDIA's installer put libcuda and libnvidia-ml.
_LIBRARY_FOLDERS = ("usr/lib/*-linux-gnu", "usr/lib64", "usr/lib")
_LIBRARIES = {"libcuda": "libcuda.so", "libnvidia_ml": "libnvidia-ml.so"}
_DKMS_LINE = (
    r"(?P<module>nvidia[\w-]*)(?:/|, )(?P<version>[\w.+~-]+)(?:, (?P<kernel>[^,:\s]+), [^,:\s]+)?: (?P<state>\w+)"
)
_SECURE_BOOT = "firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"


def loaded_module(proc: Path) -> dict[str, str] | None:
    """Version and flavour (open, proprietary) of the loaded NVIDIA kernel module, or None."""
    text = read_text(proc / "driver/nvidia/version") or ""
    found = re.search(r"NVRM version:.*?\s" + _VERSION + r"\s", text)
    if not found:
        return None
    return {"version": found[1], "flavour": "open" if "Open Kernel Module" in text else "proprietary"}


def module_on_disk(machine: Machine, kernel: str) -> dict[str, Any] | None:
    """The module the running kernel would load: version, flavour, kernel, signer (None: unsigned), or None."""
    answer = machine.ask(["modinfo", "-k", kernel, _module_name(machine.root)])
    if answer.rc != 0:
        return None
    fields = dict(re.findall(r"^(\w+):[ \t]*(.*)$", answer.out, re.MULTILINE))
    if not fields.get("version"):
        return None
    # The open module is licensed "Dual MIT/GPL", the proprietary one "NVIDIA".
    flavour = "open" if "GPL" in fields.get("license", "") else "proprietary"
    return {"version": fields["version"], "flavour": flavour, "kernel": kernel, "signer": fields.get("signer") or None}


def _module_name(root: Path) -> str:
    """Debian's module is nvidia-current or nvidia-tesla-470; its modprobe.d says what "nvidia" stands for."""
    text = read_text(root / "etc/modprobe.d/nvidia.conf") or ""
    found = re.search(r"^install nvidia .*?modprobe -i (nvidia-[\w-]+)", text, re.MULTILINE)
    return found[1] if found else "nvidia"


def user_space(root: Path) -> dict[str, str | None] | None:
    """Versions of libcuda and libnvidia-ml that programs would load, or None when neither is there."""
    found = {name: _library_version(root, library) for name, library in _LIBRARIES.items()}
    version = found["libnvidia_ml"] or found["libcuda"]
    return {"version": version, **found} if version else None


def _library_version(root: Path, library: str) -> str | None:
    """By the link the loader follows; without one by the newest file."""
    versions = []
    for folder in _library_folders(root):
        link = folder / f"{library}.1"
        if link.is_symlink() and (found := re.search(_VERSION + "$", os.path.realpath(link))):
            return found[1]
        versions += [path.name[len(library) + 1 :] for path in folder.glob(f"{library}.[0-9]*.*")]
    known = [version for version in versions if re.fullmatch(_VERSION, version)]
    return max(known, key=lambda version: [int(part) for part in version.split(".")], default=None)


def _library_folders(root: Path) -> Iterator[Path]:
    for pattern in _LIBRARY_FOLDERS:
        for folder in sorted(root.glob(pattern)):
            yield folder
            # Debian keeps each driver in a folder of its own: nvidia/current, nvidia/tesla-470.
            yield from sorted(folder.glob("nvidia/*"))


def nouveau(machine: Machine) -> dict[str, bool]:
    """Whether the free driver is loaded, and whether something keeps it from loading at the next boot."""
    modules = read_text(machine.proc / "modules") or ""
    blacklist = re.compile(r"^\s*(blacklist\s+nouveau\b|install\s+nouveau\s+/\S*(false|true)\b)", re.MULTILINE)
    files = [
        path
        for folder in ("etc/modprobe.d", "run/modprobe.d", "usr/lib/modprobe.d", "lib/modprobe.d")
        for path in machine.below(folder).glob("*.conf")
    ]
    on_command_line = re.search(
        r"modprobe\.blacklist=\S*\bnouveau\b|nouveau\.blacklist=1", read_text(machine.proc / "cmdline") or ""
    )
    return {
        "loaded": bool(re.search(r"^nouveau ", modules, re.MULTILINE)),
        "blacklisted": bool(on_command_line) or any(blacklist.search(read_text(path) or "") for path in files),
    }


def secure_boot(sys: Path) -> bool | None:
    """Whether the firmware lets only signed kernels and modules run; None without UEFI."""
    try:
        # Four bytes of attributes, then the value.
        return (sys / _SECURE_BOOT).read_bytes()[4:5] == b"\x01"
    except OSError:
        return None


def dkms(machine: Machine) -> list[dict[str, str | None]]:
    """NVIDIA modules DKMS knows: module, version, kernel (None: not built for any), state (added, built, installed, broken)."""
    modules = []
    for line in machine.ask(["dkms", "status"]).out.splitlines():
        # dkms 3: "nvidia/580.95.05, 6.8.0-1-generic, x86_64: installed"; dkms 2: "nvidia, 580.95.05, ...".
        found = re.match(_DKMS_LINE, line)
        if found:
            modules.append(found.groupdict())
    return modules


def headers(root: Path, kernel: str) -> bool:
    """Whether the headers to build a module for this kernel are installed."""
    return (root / "lib/modules" / kernel / "build").exists()
