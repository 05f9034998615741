"""The shapes of the data: what is known of GPUs, drivers, CUDA, wheels and libraries."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from .versions import Version

# (8, 6) for sm_86 and for compute capability 8.6.
Capability = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU model (gpus.yml): its silicon and which drivers serve it."""

    id: str
    names: tuple[str, ...]
    pattern: re.Pattern[str]
    pci_ids: tuple[str, ...]
    arch: str
    capability: Capability
    kind: str  # datacenter, workstation, consumer
    open_module: str  # unsupported, supported, required
    min_driver: Version
    min_driver_uncertain: bool
    max_branch: int | None
    cpu_arch: str | None
    memory_gib: float | None = None  # nominal

    @property
    def usable_bytes(self) -> int | None:
        """Memory as nvidia-smi shows it, from below: ECC takes a sixteenth of GDDR memory, of HBM (x.0, 10.3) nearly nothing."""
        if self.memory_gib is None:
            return None
        hbm = self.capability in ((6, 0), (7, 0), (8, 0), (9, 0), (10, 0), (10, 3))
        return int(self.memory_gib * 2**30 * (0.98 if hbm else 15 / 16))


@dataclass(frozen=True, slots=True)
class Architecture:
    """Which driver branches serve an architecture (drivers.yml), for GPUs that gpus.yml does not name."""

    name: str
    first_branch: int | None
    last_branch: int | None
    open_module: str


@dataclass(frozen=True, slots=True)
class Branch:
    """A driver branch (drivers.yml)."""

    number: int
    kind: str  # LTSB, PB, NFB, unknown
    cuda: Version
    first_date: str
    last_known: Version
    end_of_life: str | None
    open_module: str  # absent, optional, default, only


@dataclass(frozen=True, slots=True)
class Cuda:
    """A CUDA wheel variant (cuda.yml pytorch_variants): cu128 is CUDA 12.8."""

    variant: str
    version: Version
    min_driver: Version
    paired_driver: Version


@dataclass(frozen=True, slots=True)
class Toolkit:
    """A CUDA toolkit release and the driver paired with it (cuda.yml releases)."""

    cuda: Version
    driver: Version | None


@dataclass(frozen=True, slots=True)
class CompatPackage:
    """A cuda-compat package (cuda.yml forward_compat). bases: the driver branches it accepts underneath, if known."""

    name: str
    cuda: Version
    libs: Version
    bases: tuple[int, ...] | None
    bases_uncertain: bool


@dataclass(frozen=True, slots=True)
class Wheel:
    """The GPU kernels in one wheel (torch.yml variants). doubted: which of them the uncertainty is about; empty: all."""

    kernels: tuple[Capability, ...]
    ptx: tuple[Capability, ...]
    uncertain: bool
    doubted: tuple[Capability, ...]
    off_matrix: bool
    note: str | None


@dataclass(frozen=True, slots=True)
class Release:
    """A torch release (torch.yml). wheels: architecture -> CUDA variant -> wheel; cpu wheels exist for every release."""

    version: Version
    python: tuple[str, ...]
    python_experimental: tuple[str, ...]
    glibc: Version
    glibc_of_variant: Mapping[str, Version]
    # What is released with it: torchvision, torchaudio, triton.
    companions: Mapping[str, Version]
    companions_uncertain: frozenset[str]
    pypi_variant: Mapping[str, str]
    wheels: Mapping[str, Mapping[str, Wheel]]


@dataclass(frozen=True, slots=True)
class LibraryRow:
    """What the versions in a span need (libs.yml). Fields left out ask for nothing."""

    span: str
    torch: str = "any"
    python: str = "any"
    extra_torch: str = "any"
    floor_in_practice: str | None = None
    cuda: str = "any"
    capability: Capability | None = None
    only_capabilities: tuple[Capability, ...] = ()
    glibc: Version | None = None
    driver: Version | None = None
    cuda_major: int | None = None
    other_build: str | None = None
    uncertain: bool = False
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Library:
    """A library on top of torch (libs.yml). limits: rows about the GPU or the driver, beside those about packages."""

    name: str
    rows: tuple[LibraryRow, ...]
    limits: tuple[LibraryRow, ...]
    capability: Capability | None
    glibc: Version | None
    needs_cuda: bool
    # The rows are single releases; between two with the same torch pin the pin may be assumed.
    sampled: bool
    # architecture -> (span of CUDA versions, lowest capability its binaries are built for)
    builds: Mapping[str, tuple[tuple[str, Capability], ...]]
    status: str | None


@dataclass(frozen=True, slots=True)
class KernelException:
    """Kernels that do not run on a capability although the match rule says so, below a CUDA version if one is given."""

    kernels: tuple[Capability, ...]
    capability: Capability
    until_cuda: Version | None


@dataclass(frozen=True, slots=True)
class GpuNote:
    """Something to know about torch releases in a range on a capability."""

    capability: Capability
    torch: str
    text: str


@dataclass(frozen=True, slots=True)
class CompanionRule:
    """Versions of a companion that accept a range of torch releases, or refuse certain Pythons."""

    name: str
    span: str
    torch: str
    refused_python: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Tables:
    """Everything the resolver knows. Compared and hashed by identity, so that look-ups in it can be cached."""

    gpus: tuple[Gpu, ...]
    arch_of: Mapping[Capability, str]
    alias_of: Mapping[Capability, Capability]
    architectures: Mapping[str, Architecture]
    branches: Mapping[int, Branch]
    recommended_branch: int
    cuda: Mapping[str, Cuda]
    compat: Mapping[str, CompatPackage]  # by CUDA version: "13.0"
    toolkits: tuple[Toolkit, ...]
    releases: tuple[Release, ...]  # newest first
    exceptions: tuple[KernelException, ...]
    gpu_notes: tuple[GpuNote, ...]
    companion_rules: tuple[CompanionRule, ...]
    libraries: Mapping[str, Library]
    glibc_of_os: Mapping[str, Mapping[str, Version]]

    def release(self, torch: str) -> Release | None:
        """The release with exactly this version."""
        return next((release for release in self.releases if release.version.text == torch), None)

    def branch(self, driver: Version) -> Branch | None:
        """The branch of a driver version, if it is one we know."""
        return self.branches.get(driver.major)
