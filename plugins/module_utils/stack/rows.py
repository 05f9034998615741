"""The rows of the data files as tables: one function per kind of row. Wrong rows raise KeyError, TypeError or ValueError."""

from __future__ import annotations

import re
from typing import Any

from .tables import (
    Architecture,
    Branch,
    Capability,
    CompanionRule,
    CompatPackage,
    Cuda,
    Gpu,
    GpuNote,
    KernelException,
    Library,
    LibraryRow,
    Release,
    Toolkit,
    Wheel,
)
from .versions import Version, version

Row = dict[str, Any]


def capability(text: str) -> Capability:
    """'8.6' -> (8, 6)."""
    major, minor = text.split(".")
    return int(major), int(minor)


def kernel(number: int) -> Capability:
    """86 -> (8, 6), 120 -> (12, 0): how torch.yml writes sm_86 and sm_120."""
    return divmod(number, 10)


def gpu(row: Row) -> Gpu:
    """gpus.yml gpus. Grace Hopper is an architecture of its own for drivers."""
    return Gpu(
        id=row["id"],
        names=tuple(row["names"]),
        pattern=re.compile(row["pattern"], re.IGNORECASE),
        pci_ids=tuple(row.get("pci_ids", ())),
        arch=str(row.get("family", row["arch"])),
        capability=capability(row["cc"]),
        kind=_one_of(row["class"], "datacenter", "workstation", "consumer"),
        open_module=_one_of(row["open_module"], "unsupported", "supported", "required"),
        min_driver=version(row["min_driver"]),
        min_driver_uncertain=bool(row.get("min_driver_uncertain", row.get("uncertain", False))),
        max_branch=row.get("max_branch"),
        cpu_arch=row.get("cpu_arch"),
        memory_gib=row.get("memory_gib"),
    )


def architecture(row: Row) -> Architecture:
    """drivers.yml architectures."""
    known = _one_of(row["open_module"], "unsupported", "supported", "required")
    return Architecture(row["arch"], row["first_branch"], row["last_branch"], known)


def branch(row: Row) -> Branch:
    """drivers.yml branches."""
    return Branch(
        number=int(row["branch"]),
        kind=_one_of(row["type"], "LTSB", "PB", "NFB", "unknown"),
        cuda=version(row["cuda_reported"]),
        first_date=row["first_date"],
        last_known=version(row["last_known"]),
        end_of_life=row["eol"],
        open_module=_one_of(row["open_module"], "absent", "optional", "default", "only"),
    )


def cuda(row: Row) -> Cuda:
    """cuda.yml pytorch_variants."""
    return Cuda(row["variant"], version(row["cuda"]), version(row["min_driver"]), version(row["paired_driver"]))


def toolkit(row: Row) -> Toolkit:
    """cuda.yml releases."""
    driver = row["linux_x86_64"]
    return Toolkit(version(row["version"]), version(driver) if driver else None)


def compat_bases(row: Row) -> tuple[str, tuple[int, ...], bool]:
    """cuda.yml forward_compat.base_driver_rule.known_bases: package, driver branches, whether uncertain."""
    return row["package"], tuple(map(int, row["bases"])), bool(row.get("uncertain", False))


def compat_package(row: Row) -> CompatPackage:
    """cuda.yml forward_compat.packages; which bases it accepts comes from another table of the file."""
    return CompatPackage(
        name=row["package"],
        cuda=version(row["package"].removeprefix("cuda-compat-").replace("-", ".")),
        libs=version(row["driver_libs"].split()[0].removesuffix(".x")),
        bases=None,
        bases_uncertain=True,
    )


def kernel_exception(row: Row) -> KernelException:
    """torch.yml match_rule.exceptions."""
    until = version(row["until_cuda"]) if "until_cuda" in row else None
    return KernelException(tuple(map(kernel, row["sm"])), capability(row["not_on_cc"]), until)


def gpu_note(row: Row) -> GpuNote:
    """torch.yml gpu_notes."""
    return GpuNote(capability(row["cc"]), row["torch"], row["text"])


def companion_rule(row: Row) -> CompanionRule:
    """torch.yml companion_rules."""
    return CompanionRule(row["name"], row["versions"], row["torch"], tuple(row.get("refused_python", ())))


def release(row: Row) -> Release:
    """torch.yml releases."""
    companions: dict[str, Version] = {name: version(row[name]) for name in ("torchvision", "torchaudio")}
    if "triton" in row["pypi_pins"]:
        companions["triton"] = version(row["pypi_pins"]["triton"])
    return Release(
        version=version(row["version"]),
        python=tuple(row["python"]),
        python_experimental=tuple(row.get("python_experimental", ())),
        glibc=version(row["glibc_min"]),
        glibc_of_variant={name: version(text) for name, text in row.get("glibc_min_variant", {}).items()},
        companions=companions,
        companions_uncertain=frozenset(name for name in companions if row.get(f"{name}_uncertain")),
        pypi_variant=row["pypi_variant"],
        wheels={arch: {name: _wheel(wheel) for name, wheel in rows.items()} for arch, rows in row["variants"].items()},
    )


def library(item: tuple[str, Row]) -> Library:
    """libs.yml libs. A min_cc that is a list of spans, and driver floors, become `limits`."""
    name, data = item
    floor, uncertain = data.get("min_cc"), bool(data.get("uncertain", False))
    limits = [*(floor if isinstance(floor, list) else []), *data.get("driver_floor", [])]
    builds: dict[str, list[tuple[str, Capability]]] = {}
    for build in data.get("cuda_builds", []):
        builds.setdefault(build["arch"], []).append((build["cuda"], capability(build["lowest"])))
    return Library(
        name=name,
        rows=tuple(_library_row(row, uncertain) for row in data.get("rows", [])),
        limits=tuple(_library_row(row, uncertain) for row in limits),
        capability=capability(floor) if isinstance(floor, str) else None,
        glibc=version(data["glibc_min"]) if "glibc_min" in data else None,
        needs_cuda=bool(data.get("needs_cuda", False)),
        sampled=bool(data.get("sampled", False)),
        builds={arch: tuple(rows) for arch, rows in builds.items()},
        status=data.get("status"),
    )


def glibc_of_os(item: tuple[str, dict[str, str]]) -> tuple[str, dict[str, Version]]:
    """os.yml glibc."""
    name, releases = item
    return name, {release: version(text) for release, text in releases.items()}


def _library_row(row: Row, uncertain: bool) -> LibraryRow:
    return LibraryRow(
        span=row["versions"],
        torch=row.get("torch", "any"),
        python=row.get("python", "any"),
        extra_torch=row.get("extra_torch", "any"),
        floor_in_practice=row.get("torch_in_practice", row.get("runtime_check")),
        cuda=row.get("cuda", "any"),
        capability=capability(row["min_cc"]) if "min_cc" in row else None,
        only_capabilities=tuple(map(capability, row.get("gpus", ()))),
        glibc=version(row["wheel_glibc"]) if "wheel_glibc" in row else None,
        driver=version(row["min_driver"]) if "min_driver" in row else None,
        cuda_major=row.get("cuda_major"),
        other_build=row.get("other_build"),
        uncertain=bool(row.get("uncertain", uncertain)),
        note=row.get("note"),
    )


def _wheel(row: Row) -> Wheel:
    return Wheel(
        kernels=tuple(map(kernel, row["sm"])),
        ptx=tuple(map(kernel, row.get("ptx", ()))),
        uncertain=bool(row.get("uncertain", False)),
        doubted=tuple(map(kernel, row.get("uncertain_sm", ()))),
        off_matrix=bool(row.get("off_matrix", False)),
        note=row.get("note"),
    )


def _one_of(value: Any, *allowed: str) -> str:
    if value not in allowed:
        raise ValueError(f"{value!r} is none of {', '.join(allowed)}")
    return str(value)
