"""The kernel modules of a driver: whether they lie ready for a kernel, and building them with DKMS."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from ansible.module_utils.bedplate.hostfacts import read_text

# There until the next boot: a driver installed since the last one cannot be loaded yet.
SINCE_BOOT = Path("/run/bedplate-driver-installed")
Run = Callable[..., "subprocess.CompletedProcess[str]"]


class ModuleBuild:
    """Modules of one driver for one kernel. run: runs a command. prebuilt: they come ready-made instead of from DKMS."""

    def __init__(self, run: Run, kernel: str, prebuilt: bool, root: Path) -> None:
        self.run, self.kernel, self.prebuilt, self.root = run, kernel, prebuilt, root
        self.by_dkms = not prebuilt and shutil.which("dkms") is not None

    def ready(self, version: str | None) -> bool:
        """Whether the next boot of the kernel finds this driver's modules."""
        if version and self.by_dkms:
            listed = self.run("dkms", "status", "-k", self.kernel).stdout
            return any(re.search(rf"nvidia.*{re.escape(version)}.*installed", line) for line in listed.splitlines())
        modules = Path("/lib/modules") / self.kernel
        return any(modules.glob("updates/**/nvidia*.ko*")) or any(modules.glob("kernel/**/nvidia*.ko*"))

    def build(self, version: str) -> bool:
        """Let DKMS build what it did not build by itself; returns whether the modules lie ready then."""
        self.run("dkms", "autoinstall", "-k", self.kernel)
        return self.ready(version)

    def reason(self, version: str) -> str:
        """Why a build failed, from DKMS's log, of which a copy is kept; empty where there is no log."""
        for log in sorted(Path("/var/lib/dkms").glob(f"nvidia*/{version}/build/make.log")):
            text = read_text(log) or ""
            self.root.mkdir(mode=0o755, parents=True, exist_ok=True)
            copy = self.root / "make.log"
            shutil.copy2(log, copy)
            errors = [line.strip() for line in text.splitlines() if re.search(r"\berror\b", line, re.IGNORECASE)]
            said = " ".join(errors[:2] or text.split("\n")[-4:])
            return f"{said[:400]} (the whole log: {copy})"
        return ""
