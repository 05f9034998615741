"""Whether what a GPU server says of its driver is one truth: bus, kernel, modules on disk, libraries, nvidia-smi and fabric.

Pure functions over the infrastructure probe; on the controller (the stack resolver's data says which driver serves a GPU).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ansible.module_utils.bedplate.kernellog import REFUSED_MODULE
from ansible.module_utils.bedplate.refusal import refusal
from ansible.module_utils.stack import StackError, load_tables
from ansible.module_utils.stack.cuda import compat_finding, cuda_finding
from ansible.module_utils.stack.drivers import driver_needs
from ansible.module_utils.stack.host import Host, host_of

# nvidia-smi's exit status for "Driver/library version mismatch".
SMI_MISMATCH = 18
# Errors after which NVIDIA's catalogue of Xids says: reset the GPU or restart the server. 79: it has fallen off the bus.
DEAD_GPU = frozenset((46, 48, 62, 64, 79, 95, 109, 110, 119, 120, 136, 140, 143))
_REBOOT = "reboot the server: it then loads the module that is on disk"


def driver_problems(probe: Mapping[str, Any], variant: str | None = None) -> list[str]:
    """Refusals for a GPU server whose driver cannot work as it is; empty where it can, and on a CPU host.

    probe: result of bedplate_infrastructure_probe. variant: the wheel variant the inventory names (cu128), if it names one.
    A cause is told once: what follows from it is not told again.
    """
    if not probe["gpus"]:
        return []
    if probe["nvidia_module"] is None:
        return list(_not_loaded(probe))
    mismatch = list(_mismatch(probe))
    if mismatch:
        return mismatch
    host = _host(probe)
    flavour = list(_wrong_flavour(probe, host))
    fabric = list(_fabric(probe))
    # GPUs of the wrong flavour are not shown by nvidia-smi either.
    missing = [] if flavour else list(_missing_gpus(probe))
    return [*flavour, *fabric, *missing, *_wheel(host, variant)]


def driver_warnings(probe: Mapping[str, Any]) -> list[str]:
    """What should be looked at although the driver works: an error that NVIDIA says needs a GPU reset."""
    xid = probe["last_xid"]
    if xid is None or xid["code"] not in DEAD_GPU:
        return []
    return [
        f"The kernel reported {xid['text']} since the last boot. NVIDIA's advice for Xid {xid['code']} is to reset the GPU or "
        "restart the server; nvidia-smi shows every GPU now, and the next layer computes on each of them."
    ]


def _not_loaded(probe: Mapping[str, Any]) -> Iterator[str]:
    """Why no module is loaded: the first cause that fits, once."""
    gpus, on_disk, kernel = probe["gpus"], probe["nvidia_module_on_disk"], probe["kernel"]
    holders = sorted({str(gpu["driver"]) for gpu in gpus if gpu.get("driver")})
    if probe["nouveau"]["loaded"] or "nouveau" in holders:
        yield refusal(
            "BP137",
            "nouveau holds the GPU",
            f"the free driver nouveau loaded{'' if probe['nouveau']['blacklisted'] else ' and not blacklisted'}",
            "NVIDIA's module",
            "run site.yml, which blacklists nouveau and rebuilds the initramfs, and reboot the server (nvidia_driver_reboot=true).",
        )
        return
    signatures = probe["failure_signatures"]
    refused = [line for line in signatures if line in REFUSED_MODULE]
    if on_disk and (refused or (probe["secure_boot"] and not on_disk["signer"])):
        said = f", the kernel says: {refused[0]}" if refused else ""
        yield refusal(
            "BP138",
            "Secure Boot blocks the NVIDIA module",
            f"module {on_disk['version']} for {kernel} "
            f"{'signed by ' + on_disk['signer'] if on_disk['signer'] else 'unsigned'}{said}",
            "a module signed by a key the firmware trusts",
            "enrol the key DKMS signs with (mokutil --import /var/lib/dkms/mok.pub, then confirm at the console during a reboot), "
            "use the distribution's signed modules, or switch Secure Boot off in the firmware.",
        )
        return
    if not on_disk and probe["dkms"]:
        known = "; ".join(
            f"{row['module']}/{row['version']} {row['state']}" + (f" for {row['kernel']}" if row["kernel"] else "")
            for row in probe["dkms"]
        )
        headers = "" if probe["headers"] else f"install the headers of {kernel}, then "
        yield refusal(
            "BP134",
            "no NVIDIA module for the running kernel",
            f"kernel {kernel}{'' if probe['headers'] else ' without headers'}, DKMS has {known}",
            f"a module built for {kernel}",
            f"{headers}sudo dkms autoinstall -k {kernel} && sudo modprobe nvidia.",
        )
        return
    others = [name for name in holders if name != "nvidia"]
    because = f", held by {', '.join(others)}" if others else ""
    because += f", the kernel says: {signatures[0]}" if signatures else ""
    disk = f"module {on_disk['version']} on disk" if on_disk else "no module on disk"
    yield refusal(
        "BP131",
        "NVIDIA module not loaded",
        f"{len(gpus)} GPU(s) on the PCI bus{because} and {disk}",
        "a loaded driver",
        "sudo modprobe nvidia and read dmesg | grep NVRM; where no driver is installed run site.yml, or set "
        "nvidia_driver_policy=ignore to use this server as a CPU host.",
    )


def _mismatch(probe: Mapping[str, Any]) -> Iterator[str]:
    loaded, user, smi = probe["nvidia_module"]["version"], probe["nvidia_userspace"], probe["nvidia_smi"]
    libraries = {user["libcuda"], user["libnvidia_ml"]} - {None} if user else set()
    if libraries == {loaded} and not (smi and smi["rc"] == SMI_MISMATCH):
        return
    on_disk = probe["nvidia_module_on_disk"]
    stale = on_disk is not None and on_disk["version"] != loaded
    told = f"; nvidia-smi says: {smi['message']}" if smi and smi["rc"] == SMI_MISMATCH else ""
    yield refusal(
        "BP132",
        "driver and libraries are of different versions",
        f"kernel module {loaded} and libraries {', '.join(sorted(libraries)) or 'none'}{told}",
        "one version of both",
        f"{_REBOOT}." if stale else "install module and libraries of one version (playbooks/upgrade_driver.yml does).",
    )


def _wrong_flavour(probe: Mapping[str, Any], host: Host | None) -> Iterator[str]:
    loaded = probe["nvidia_module"]
    allowed = driver_needs(host.models).flavours if host else (loaded["flavour"],)
    if allowed and loaded["flavour"] not in allowed:
        yield refusal(
            "BP133",
            "kernel modules of the wrong flavour",
            f"the {loaded['flavour']} modules {loaded['version']} on {_names(probe)}",
            f"the {' or '.join(allowed)} modules",
            f"set nvidia_driver_flavour={allowed[0]} and run playbooks/upgrade_driver.yml.",
        )


def _fabric(probe: Mapping[str, Any]) -> Iterator[str]:
    """With NVSwitches CUDA starts (else error 802) only after Fabric Manager joined every GPU, whatever nvidia-smi shows."""
    states = sorted({gpu["fabric_state"] for gpu in probe["gpus"]} - {None, "Completed"})
    # The switches of B200 boards are not on the PCI bus; their GPUs say that they wait for the fabric.
    if not probe["nvswitches"] and "In Progress" not in states:
        return
    manager, loaded = probe["fabric_manager"], probe["nvidia_module"]["version"]
    active = manager["unit"].get("active") == "active"
    if active and manager["version"] == loaded and not states:
        return
    state = manager["unit"].get("active", "unknown") if manager["unit"].get("load") == "loaded" else "not installed"
    fix = (
        "sudo systemctl enable --now nvidia-fabricmanager; journalctl -u nvidia-fabricmanager tells why it does not start."
        if manager["version"] == loaded
        else f"install Fabric Manager {loaded} (site.yml does with nvidia_driver_fabric_manager=auto)."
    )
    yield refusal(
        "BP136",
        "NVSwitch fabric not ready",
        f"{len(probe['nvswitches'])} NVSwitch(es) on the bus, Fabric Manager {manager['version'] or 'of no version'} {state}"
        + (f", fabric state {', '.join(states)}" if states else ""),
        f"Fabric Manager {loaded} active and every GPU's fabric Completed",
        fix,
    )


def _missing_gpus(probe: Mapping[str, Any]) -> Iterator[str]:
    smi, xid = probe["nvidia_smi"], probe["last_xid"]
    if smi is None:
        return
    missing = [gpu["address"] for gpu in probe["gpus"] if gpu["uuid"] is None]
    if not missing:
        return
    found = f"{len(probe['gpus']) - len(missing)} of {len(probe['gpus'])} GPUs in nvidia-smi, not {', '.join(missing)}"
    found += f", it says: {smi['message']}" if smi["message"] else ""
    found += f", {xid['text']}" if xid else ""
    found += f", the kernel says: {probe['failure_signatures'][0]}" if probe["failure_signatures"] else ""
    dead = xid is not None and xid["code"] in DEAD_GPU
    yield refusal(
        "BP139",
        "nvidia-smi sees fewer GPUs than the PCI bus",
        found,
        "every GPU",
        "power the server off and on; if the GPU stays away it or its slot is broken."
        if dead
        else "read dmesg | grep NVRM; reboot the server, and if it stays so the driver does not serve this GPU.",
    )


def _wheel(host: Host | None, variant: str | None) -> Iterator[str]:
    tables = load_tables()
    cuda = tables.cuda.get(variant or "")
    if host is None or cuda is None:
        return
    compat = compat_finding(tables, host)
    finding = cuda_finding(tables, host, cuda, host.compat is not None and not compat.problems)
    for problem in finding.problems:
        yield refusal(
            "BP135",
            "driver too old for the wheel",
            problem.text,
            f"driver {cuda.min_driver} or newer for {cuda.variant}",
            "set pytorch_variant=auto, which takes the newest wheel this driver runs, or run playbooks/upgrade_driver.yml.",
        )


def _host(probe: Mapping[str, Any]) -> Host | None:
    """The probe as the resolver reads it; None for a GPU it does not know (the decision says that)."""
    gpus = [{key: gpu[key] for key in ("name", "pci_id", "compute_cap") if gpu.get(key)} for gpu in probe["gpus"]]
    loaded, compat = probe["nvidia_module"], probe["cuda_compat"]
    facts = {"gpus": gpus, "driver": loaded["version"], "kernel_module": loaded["flavour"], "cuda_compat": compat}
    try:
        return host_of(load_tables(), facts)
    except StackError:
        return None


def _names(probe: Mapping[str, Any]) -> str:
    return ", ".join(sorted({gpu["name"] or gpu["pci_id"] for gpu in probe["gpus"]}))
