"""A host's GPUs: on the PCI bus, with or without a driver, and as nvidia-smi describes them where it works.

Runs on the target: standard library only, Python 3.9 or newer, never writes.
"""

from __future__ import annotations

import os
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ansible.module_utils.bedplate.hostfacts import read_text
from ansible.module_utils.bedplate.machine import NOT_FOUND, Machine

# PCI base class 03: display controllers; 0302 is a 3D controller, what data-centre GPUs call themselves.
# An NVSwitch is a bridge of another kind (0680).
_DISPLAY, _OTHER_BRIDGE = "0x03", "0x0680"
_NVIDIA = "0x10de"
# A GPU that died lets nvidia-smi hang for long.
_SMI_SECONDS = 60
_UNTOLD: dict[str, Any] = {
    "name": None,
    "memory_bytes": None,
    "uuid": None,
    "compute_cap": None,
    "mig": None,
    "mig_devices": [],
    "fabric_state": None,
}


def nvidia_gpus(sys: str | Path = "/sys") -> list[dict[str, str]]:
    """NVIDIA display controllers on the PCI bus, with or without a driver: address and pci_id (vendor:device)."""
    return list(_nvidia_devices(sys, _DISPLAY))


def nvswitches(sys: str | Path = "/sys") -> list[dict[str, str]]:
    """NVSwitch chips on the PCI bus: address and pci_id. A host that has them needs Fabric Manager."""
    return list(_nvidia_devices(sys, _OTHER_BRIDGE))


def _nvidia_devices(sys: str | Path, kind: str) -> Iterator[dict[str, str]]:
    for device in sorted((Path(sys) / "bus/pci/devices").glob("*")):
        vendor, found, model = ((read_text(device / name) or "").strip() for name in ("vendor", "class", "device"))
        if vendor == _NVIDIA and found.startswith(kind):
            yield {"address": device.name, "pci_id": f"{vendor[2:]}:{model[2:]}"}


def bound_driver(sys: Path, address: str) -> str | None:
    """The kernel driver that holds a PCI device: nvidia, nouveau, vfio-pci or None."""
    try:
        return os.path.basename(os.readlink(sys / "bus/pci/devices" / address / "driver"))
    except OSError:
        return None


def described_gpus(machine: Machine) -> dict[str, Any]:
    """gpus, nvidia_smi and compute_processes of a host with at least one GPU."""
    path = machine.which("nvidia-smi")
    answer = machine.ask(["nvidia-smi", "-q", "-x"], timeout=_SMI_SECONDS)
    log = _parsed(answer.out) if answer.rc == 0 else None
    told = {} if log is None else {_address(gpu.get("id", "")): _gpu(gpu) for gpu in log.iter("gpu")}
    if told:
        _add_capabilities(machine, told)
    if any(gpu["mig"] for gpu in told.values()):
        _add_slices(machine, told)
    smi = {
        "path": path,
        "rc": answer.rc,
        "message": None if log is not None else _first_lines(answer.out, answer.err),
        "driver": None if log is None else _text(log, "driver_version"),
        "cuda": None if log is None else _text(log, "cuda_version"),
    }
    return {
        "gpus": [
            {
                **gpu,
                "driver": bound_driver(machine.sys, gpu["address"]),
                **_UNTOLD,
                **_of_module(machine.proc, gpu["address"]),
                **told.get(gpu["address"], {}),
            }
            for gpu in nvidia_gpus(machine.sys)
        ],
        "nvidia_smi": None if path is None or answer.rc == NOT_FOUND else smi,
        "compute_processes": [] if log is None else list(_compute_processes(log)),
    }


def _parsed(text: str) -> ET.Element | None:
    try:
        return ET.fromstring(text)
    except ET.ParseError:
        return None


def _address(smi_id: str) -> str:
    """nvidia-smi's 00000000:3D:00.0 as the kernel writes it: 0000:3d:00.0."""
    return smi_id.strip().lower()[-12:]


def _text(element: ET.Element, path: str) -> str | None:
    """The text below a path, None for what nvidia-smi does not know."""
    text = (element.findtext(path) or "").strip()
    return None if text in ("", "N/A", "[N/A]", "Not Supported", "[Not Supported]") else text


def _gpu(gpu: ET.Element) -> dict[str, Any]:
    mig = _text(gpu, "mig_mode/current_mig")
    memory = re.match(r"(\d+) MiB", _text(gpu, "fb_memory_usage/total") or "")
    return {
        "name": _text(gpu, "product_name"),
        "memory_bytes": int(memory[1]) * 1024**2 if memory else None,
        "uuid": _text(gpu, "uuid"),
        "compute_cap": None,
        "mig": None if mig is None else mig == "Enabled",
        "mig_devices": [],
        "fabric_state": _text(gpu, "fabric/state"),
    }


def _of_module(proc: Path, address: str) -> dict[str, str]:
    """The name the loaded module gives a GPU: known even where nvidia-smi is not installed or does not work."""
    text = read_text(proc / "driver/nvidia/gpus" / address / "information") or ""
    model = re.search(r"^Model:[ \t]*(.+?)[ \t]*$", text, re.MULTILINE)
    return {"name": model[1]} if model and model[1] != "Unknown" else {}


def _compute_processes(log: ET.Element) -> Iterator[dict[str, Any]]:
    seen = set()
    for process in log.iter("process_info"):
        pid = int(process.findtext("pid") or 0)
        # C: compute, C+G: both, M+C: compute through MPS, G: graphics alone.
        if "C" in (process.findtext("type") or "") and pid not in seen:
            seen.add(pid)
            yield {"pid": pid, "name": process.findtext("process_name") or None}


def _add_capabilities(machine: Machine, told: dict[str, dict[str, Any]]) -> None:
    """The compute capabilities, which the XML does not tell; drivers before 510 do not know the question."""
    answer = machine.ask(["nvidia-smi", "--query-gpu=pci.bus_id,compute_cap", "--format=csv,noheader"], _SMI_SECONDS)
    for line in answer.out.splitlines() if answer.rc == 0 else []:
        address, _, capability = line.partition(",")
        if _address(address) in told and re.fullmatch(r"\d+\.\d+", capability.strip()):
            told[_address(address)]["compute_cap"] = capability.strip()


def _add_slices(machine: Machine, told: dict[str, dict[str, Any]]) -> None:
    """The profiles of MIG slices ("3g.40gb"), which the XML does not name."""
    of_uuid = {gpu["uuid"]: gpu for gpu in told.values()}
    slices: list[str] = []
    for line in machine.ask(["nvidia-smi", "-L"], _SMI_SECONDS).out.splitlines():
        if gpu := re.match(r"GPU \d+: .*\(UUID: (GPU-[^)]+)\)", line):
            slices = of_uuid.get(gpu[1], {"mig_devices": []})["mig_devices"]
        elif found := re.match(r"\s+MIG (\S+)\s+Device\s+\d+:", line):
            slices.append(found[1])


def _first_lines(out: str, err: str) -> str:
    """What nvidia-smi said when it did not work, on one line."""
    lines = [line.strip() for line in (out + "\n" + err).splitlines() if line.strip()]
    return " ".join(lines[:3])[:400]


def device_users(machine: Machine) -> list[dict[str, Any]]:
    """Processes with an open /dev/nvidia*: [{pid, name}]. Needs root to see those of others."""
    prefixes = ("/dev/nvidia", str(machine.dev / "nvidia"))
    users = []
    for process in sorted(machine.proc.glob("[0-9]*"), key=lambda path: int(path.name)):
        try:
            held = any(os.readlink(link).startswith(prefixes) for link in (process / "fd").iterdir())
        except OSError:
            continue
        if held:
            users.append({"pid": int(process.name), "name": (read_text(process / "comm") or "").strip() or None})
    return users
