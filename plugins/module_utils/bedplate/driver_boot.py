"""What the next boot needs: nouveau out of the way, but only once an NVIDIA module is there to take its place."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.module_utils.bedplate.apt import Refused
from ansible.module_utils.bedplate.driver_files import write_file
from ansible.module_utils.bedplate.hostfacts import read_text
from ansible.module_utils.bedplate.refusal import refusal

STAMP = "/var/lib/bedplate/stamps/nvidia_initramfs"


def initramfs_command(kernel: str) -> list[str] | None:
    """How this host rebuilds the initramfs of a kernel; None where it has none to rebuild."""
    if shutil.which("update-initramfs"):
        return ["update-initramfs", "-u", "-k", kernel]
    if shutil.which("dracut"):
        return ["dracut", "--force", "--kver", kernel]
    return None


def prepare_boot(wanted: Mapping[str, Any], version: str | None, built: bool, did: list[str], check: bool) -> None:
    """Write the boot files and rebuild the initramfs, if a module is there for the kernel. Raises Refused BP161.

    A run killed between the two comes back: the stamp is written last.
    """
    files: Mapping[str, str] = wanted["boot_files"]
    if not built or not files:
        return
    for path, text in files.items():
        write_file(path, text, did, check)
    said = json.dumps([files, version, wanted["kernel"]], sort_keys=True)
    stamp = hashlib.sha256(said.encode()).hexdigest() + "\n"
    if read_text(STAMP) == stamp:
        return
    for unit in (Path(path).name for path in files if path.endswith(".service")):
        if not check:
            subprocess.run(["systemctl", "daemon-reload"], check=False)
            subprocess.run(["systemctl", "enable", "--quiet", unit], check=False)
    kernel = str(wanted["kernel"])
    command = initramfs_command(kernel)
    if check:
        did.append(
            f"would rebuild the initramfs of {kernel}" if command else "has no initramfs tool: nothing to rebuild"
        )
        return
    if command and Path(f"/lib/modules/{kernel}").is_dir() and has_image(kernel):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            fix = f"run `{' '.join(command)}` on the server and read why; nouveau may come up at the next boot until it ends well."
            found = " ".join((done.stderr or done.stdout).split())[-300:]
            raise Refused(refusal("BP161", f"initramfs of {kernel} not rebuilt", found, "it to end well", fix))
        did.append(f"rebuilt the initramfs of {kernel}")
    else:
        did.append(f"left the initramfs alone: there is none of {kernel} on this host")
    write_file(STAMP, stamp, [])


def has_image(kernel: str) -> bool:
    """Whether an initramfs of the kernel exists; a container or a diskless host has none."""
    return any(
        Path(f"/boot/{name}").exists()
        for name in (f"initrd.img-{kernel}", f"initramfs-{kernel}.img", f"initrd-{kernel}")
    )
