"""Which GPU model is meant: by the name nvidia-smi prints, by PCI id, or by compute capability."""

from __future__ import annotations

import difflib
import re
from functools import lru_cache

from .tables import Capability, Gpu, Tables
from .versions import version

_MIG_SUFFIX = re.compile(r"\s+MIG\s+\S+$", re.IGNORECASE)
_HEX_ID = re.compile(r"(?:10de:|0x)?([0-9a-f]{4})(?:10de)?$")


@lru_cache(maxsize=4096)
def gpu_named(tables: Tables, name: str) -> Gpu | None:
    """The GPU with this name; a MIG slice ("NVIDIA A30 MIG 1g.6gb") is its GPU."""
    whole = _MIG_SUFFIX.sub("", " ".join(name.split()))
    return next((gpu for gpu in tables.gpus if gpu.pattern.match(whole)), None)


@lru_cache(maxsize=4096)
def gpu_with_pci_id(tables: Tables, pci_id: str) -> Gpu | None:
    """The GPU with this PCI id ('10de:20b0', '20b0', nvidia-smi's '0x20B010DE').

    Of products that share an id, the one that needs the newest driver: what serves it serves the others.
    """
    match = _HEX_ID.search(pci_id.strip().lower())
    wanted = f"10de:{match[1]}" if match else None
    sharing = [gpu for gpu in tables.gpus if wanted in gpu.pci_ids]
    return max(sharing, key=lambda gpu: gpu.min_driver, default=None)


@lru_cache(maxsize=256)
def gpu_of_capability(tables: Tables, name: str, capability: Capability) -> Gpu | None:
    """A GPU we have no row for, known by its compute capability: the rules of its architecture, and no forward compatibility."""
    architecture = tables.architectures.get(tables.arch_of.get(capability, ""))
    if architecture is None:
        return None
    return Gpu(
        id=name,
        names=(name,),
        pattern=re.compile(re.escape(name)),
        pci_ids=(),
        arch=architecture.name,
        capability=capability,
        kind="consumer",
        open_module=architecture.open_module,
        min_driver=version(str(architecture.first_branch or 0)),
        min_driver_uncertain=True,
        max_branch=architecture.last_branch,
        cpu_arch=None,
    )


def nearest_names(tables: Tables, name: str, count: int = 3) -> list[str]:
    """The known names most like an unknown one, nearest first; those that continue it ("A100") before those that resemble it."""
    wanted = _bare(name)
    known = {_bare(known): known for gpu in tables.gpus for known in gpu.names}
    continuing = [full for bare, full in known.items() if wanted and bare.startswith(wanted)]
    similar = [known[near] for near in difflib.get_close_matches(wanted, list(known), n=count, cutoff=0.3)]
    return list(dict.fromkeys([*continuing, *similar]))[:count]


def _bare(name: str) -> str:
    return " ".join(re.sub(r"\b(nvidia|tesla|geforce)\b", "", name.lower()).split())
