"""What a server says of its driver, as something to compare."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.fixtures.machine import ON_SERVER

STATE = rf"""
import glob, json, os, re, subprocess
def said(*argv): return subprocess.run(argv, capture_output=True, text=True).stdout
def read(path): return open(path).read() if os.path.exists(path) else ""
rows = [row.split("\t") for row in said("dpkg-query", "-W", "-f", "${{Package}}\t${{db:Status-Abbrev}}\t${{Version}}\n").splitlines()]
rows = [row for row in rows if re.search("nvidia|cuda|^dkms$|^linux-headers", row[0]) and row[1].strip() not in ("un", "rc")]
library = "/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1"
loaded = re.search(r"\s(\d+\.\d+\.\d+)\s", read("{ON_SERVER}/proc/driver/nvidia/version"))
print(json.dumps({{
    "packages": {{name: version for name, status, version in rows}},
    "broken": [name for name, status, version in rows if status.strip() not in ("ii", "hi")],
    "holds": sorted(said("apt-mark", "showhold").split()),
    "loaded": loaded and loaded[1],
    "user_space": os.path.realpath(library).partition(".so.")[2] if os.path.exists(library) else None,
    "dkms": sorted(said("/usr/sbin/dkms", "status").splitlines()) if os.path.exists("/usr/sbin/dkms") else [],
    "boot_id": read("/proc/sys/kernel/random/boot_id").strip(),
    "settings": {{path: read(path) for folder in ("preferences.d", "apt.conf.d", "sources.list.d")
                 for path in sorted(glob.glob(f"/etc/apt/{{folder}}/*"))
                 if "bedplate" in read(path).lower() or "bedplate" in path}},
    "modprobe": {{path: read(path) for path in sorted(glob.glob("/etc/modprobe.d/*"))}},
    "kept": sorted(glob.glob("/var/lib/bedplate/driver/*/*.deb")),
    "receipt": json.loads(read("/etc/ansible/facts.d/bedplate.fact") or "{{}}"),
    "persistenced": said("systemctl", "is-active", "nvidia-persistenced").strip(),
}}))
"""


@dataclass(frozen=True)
class State:
    """What a server says of its driver. packages: name -> version; broken: those dpkg has not finished."""

    packages: dict[str, str]
    broken: list[str]
    holds: list[str]
    loaded: str | None
    user_space: str | None
    dkms: list[str]
    boot_id: str
    settings: dict[str, str]
    modprobe: dict[str, str]
    kept: list[str]
    receipt: dict[str, Any]
    persistenced: str

    @property
    def driver_packages(self) -> dict[str, str]:
        """Those a hold must keep: everything NVIDIA's."""
        return {name: version for name, version in self.packages.items() if "nvidia" in name or "cuda" in name}

    def same_driver(self, other: State) -> bool:
        """Whether the driver is as in the other state; a reboot and more packages kept for later are no change to it."""
        beside = {"boot_id": "", "kept": []}
        return {**vars(self), **beside} == {**vars(other), **beside}
