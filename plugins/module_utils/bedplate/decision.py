"""Between the probe, the resolver and the receipt: the question a server asks, what is kept of the answer, what changed since.

Runs on the controller. Pure functions over plain data; the resolver itself is in module_utils/stack.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

# What the last run left of the answer, beside the resolver's own fields: the facts it was about, and the wish.
_KEPT = ("kernel_module", "cuda_compat", "python")
_BEFORE = ("driver", "torch", "variant")


def stack_facts(probe: Mapping[str, Any], facts: Mapping[str, Any], python: str | None) -> dict[str, Any]:
    """The resolver's facts of a server.

    probe: result of bedplate_infrastructure_probe. facts: ansible_facts with distribution, distribution_version, architecture.
    python: of the environment that torch is for; None where it is not known. A host without GPUs has no driver that matters.
    """
    module = (probe.get("nvidia_module") or {}) if probe["gpus"] else {}
    compat = (probe.get("cuda_compat") or {}) if probe["gpus"] else {}
    return {
        "gpus": [_gpu(gpu) for gpu in probe["gpus"]],
        "driver": module.get("version"),
        "kernel_module": module.get("flavour"),
        "os": {
            "id": str(facts["distribution"]).lower(),
            "version": str(facts["distribution_version"]),
            "glibc": probe.get("glibc"),
        },
        "arch": facts["architecture"],
        "python": python or None,
        "cuda_compat": _compat(compat),
    }


def _gpu(gpu: Mapping[str, Any]) -> dict[str, Any]:
    """As nvidia-smi names it; where it does not answer, by the PCI id that needs no driver."""
    return {key: gpu[key] for key in ("name", "pci_id", "compute_cap") if gpu.get(key)}


def _compat(package: Mapping[str, Any]) -> str | None:
    if not package:
        return None
    # 580.95.05-0ubuntu1: the distribution's revision is no part of the libraries' version.
    return " ".join([str(package["package"]), *re.split(r"[-~ ]", str(package.get("version") or ""))[:1]]).strip()


def kept(
    decision: Mapping[str, Any], facts: Mapping[str, Any], want: Mapping[str, Any], before: Mapping[str, Any]
) -> dict[str, Any]:
    """The receipt's section cuda_match: the decision, the facts and the wish it was about, and what was there before it.

    before: the section the last run wrote. `changed_from` stays until the next change, so a run that changes nothing writes nothing.
    """
    section = {
        **decision,
        "gpus": [str(gpu.get("name") or gpu.get("pci_id")) for gpu in facts["gpus"]],
        **{key: facts[key] for key in _KEPT},
        "want": {key: str(want[key]) for key in ("torch", "variant")},
    }
    previous = {key: before.get(key) for key in _BEFORE}
    if before.get("torch") and previous != {key: section.get(key) for key in _BEFORE}:
        section["changed_from"] = previous
    elif "changed_from" in before:
        section["changed_from"] = before["changed_from"]
    return section


def drift(receipt: Mapping[str, Any], probe: Mapping[str, Any], decision: Mapping[str, Any]) -> list[str]:
    """What changed on a server since the last run and what it means for torch, as sentences; empty where nothing did.

    receipt: what the last run left (ansible_local.bedplate). probe: result of bedplate_infrastructure_probe. decision: the section
    cuda_match of this run. 'driver 535.261.03 → 580.95.05 since the last run: torch resolved again: 2.10.0+cu128 → 2.13.0+cu130'.
    """
    before = receipt.get("cuda_match") or {}
    # Nothing was decided before, or by a release that did not keep what it decided on.
    if not before.get("torch") or "want" not in before:
        return []
    changes = [
        *_hardware_changes(receipt, before, probe, decision),
        *_change("Python", before.get("python"), decision.get("python")),
        *_change("wish", _wish(before["want"]), _wish(decision["want"])),
    ]
    old, new = _build(before), _build(decision)
    outcome = f"{old} → {new}" if old != new else f"{old} stays"
    if changes:
        return [f"{', '.join(changes)} since the last run: torch resolved again: {outcome}"]
    return [f"locks or data changed since the last run: torch resolved again: {outcome}"] if old != new else []


def _hardware_changes(
    receipt: Mapping[str, Any], before: Mapping[str, Any], probe: Mapping[str, Any], decision: Mapping[str, Any]
) -> Iterator[str]:
    # Without a driver GPUs have no names, so they are compared by PCI id.
    known, found = receipt.get("preflight", {}).get("gpus"), [gpu["pci_id"] for gpu in probe["gpus"]]
    if known is None or sorted(known) != sorted(found) or bool(before["gpus"]) != bool(decision["gpus"]):
        yield from _change("GPUs in use", _counted(before["gpus"]), _counted(decision["gpus"]))
    if decision["gpus"]:
        module = probe.get("nvidia_module") or {}
        yield from _change("driver", before.get("driver"), module.get("version"))
        yield from _change("kernel modules", before.get("kernel_module"), module.get("flavour"))
        yield from _change("cuda-compat", before.get("cuda_compat"), decision.get("cuda_compat"))


def _change(what: str, old: str | None, new: str | None) -> list[str]:
    return [f"{what} {old or 'none'} → {new or 'none'}"] if (old or None) != (new or None) else []


def _counted(names: Sequence[str]) -> str:
    return ", ".join(f"{count} x {name}" for name, count in sorted(Counter(names).items()))


def _wish(want: Mapping[str, Any]) -> str:
    return f"torch {want['torch']}, variant {want['variant']}"


def _build(section: Mapping[str, Any]) -> str:
    if section["verdict"] == "reject":
        return "no build fits"
    return f"{section['torch']}+{section['variant']}"


def libraries(pinned: Mapping[str, str], known: Iterable[str]) -> dict[str, str]:
    """Of an environment's pinned packages those the resolver has rules for."""
    return {name: pinned[name] for name in known if name in pinned}
