"""The question as the rules read it: the host's facts and the wish, checked and in one spelling."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .errors import StackError
from .gpus import gpu_named, gpu_of_capability, gpu_with_pci_id, nearest_names
from .stacks import LockedStack
from .tables import Capability, CompatPackage, Gpu, Tables
from .versions import Version, version

_ARCHITECTURES = {"amd64": "x86_64", "x86-64": "x86_64", "arm64": "aarch64", "sbsa": "aarch64"}
_COMPAT = re.compile(r"(?:cuda-compat-)?(?P<major>\d{2})[.-](?P<minor>\d)(?:\D+(?P<libs>\d{3}\.[\d.]+))?$")


@dataclass(frozen=True, slots=True)
class Host:
    """What is there. driver None: none installed. python, glibc None: not said, so not compared."""

    gpus: tuple[tuple[str, Gpu], ...]  # as the facts name them, and what they are
    driver: Version | None
    kernel_module: str | None
    arch: str
    os: str
    glibc: Version | None
    python: Version | None
    compat: CompatPackage | None
    # Facts that had to be derived, in words.
    doubts: tuple[str, ...] = ()

    @property
    def models(self) -> tuple[Gpu, ...]:
        """The different GPU models, in the order of the facts."""
        return tuple(dict.fromkeys(gpu for _, gpu in self.gpus))


@dataclass(frozen=True, slots=True)
class Wish:
    """What is wanted. torch, variant None: auto. stacks: only one of these; None: whichever was published."""

    torch: str | None = None
    variant: str | None = None
    libs: Mapping[str, Version | None] = field(default_factory=dict)
    stacks: tuple[LockedStack, ...] | None = None


def host_of(tables: Tables, facts: Mapping[str, Any]) -> Host:
    """The facts of design.md as a Host. Raises StackError: BP141 unknown GPU, BP142 unreadable, BP143 contradictory."""
    doubts: list[str] = []
    gpus = tuple(_gpu(tables, entry, doubts) for entry in facts.get("gpus") or [])
    driver = _driver(tables, facts.get("driver"), doubts)
    os_name, glibc = _os(tables, facts.get("os"), doubts)
    module = _text("kernel_module", facts.get("kernel_module"))
    if module not in ("open", "proprietary", None):
        raise _unreadable("kernel_module", module, "open, proprietary or null")
    return Host(
        gpus=gpus,
        driver=driver,
        kernel_module=module,
        arch=_arch(facts.get("arch"), gpus),
        os=os_name,
        glibc=glibc,
        python=_version("python", facts.get("python"), "a version such as 3.12"),
        compat=_compat(tables, facts.get("cuda_compat")),
        doubts=tuple(doubts),
    )


def wish_of(want: Mapping[str, Any]) -> Wish:
    """The wish of design.md as a Wish. Raises StackError BP142, BP143."""
    torch, variant = (_text(name, want.get(name)) for name in ("torch", "variant"))
    torch, variant = (None if text in ("auto", "any", "latest") else text for text in (torch, variant))
    if torch and "+" in torch:
        torch, _, local = torch.partition("+")
        if variant not in (None, local):
            raise StackError(
                "BP143", f"the wish contradicts itself: torch {torch}+{local} and variant {variant}", "name one variant"
            )
        variant = local
    if torch:
        _version("torch", torch, "a version such as 2.9.1, or auto")
    libs = want.get("libs") or {}
    if not isinstance(libs, Mapping):
        raise _unreadable("libs", libs, "a mapping of names to versions")
    listed = {_library_name(name): _library_version(name, text) for name, text in libs.items()}
    return Wish(torch, variant, listed, _stacks(want.get("stacks")))


def _stacks(value: Any) -> tuple[LockedStack, ...] | None:
    if value is None:
        return None
    wanted = "a list of {torch, variant}"
    if not isinstance(value, list | tuple):
        raise _unreadable("stacks", value, wanted)
    stacks = []
    for entry in value:
        fields: Mapping[str, Any] = entry if isinstance(entry, Mapping) else {}
        torch, variant = (_text(f"stacks.{key}", fields.get(key)) for key in ("torch", "variant"))
        if torch is None or variant is None:
            raise _unreadable("stacks", entry, wanted)
        limits = (tuple(map(str, fields.get(key) or ())) for key in ("architectures", "pythons"))
        stacks.append(LockedStack(torch, variant, *limits))
    return tuple(stacks)


def _gpu(tables: Tables, entry: Any, doubts: list[str]) -> tuple[str, Gpu]:
    fields: Mapping[str, Any] = entry if isinstance(entry, Mapping) else {"name": entry}
    name, pci_id = str(fields.get("name") or ""), str(fields.get("pci_id") or "")
    capability = _capability(fields.get("compute_cap"))
    if name and (gpu := gpu_named(tables, name)):
        if capability and capability != gpu.capability:
            raise StackError(
                "BP143",
                f"the facts contradict themselves: {name} has compute capability {dotted(gpu.capability)}, "
                f"the facts say {dotted(capability)}",
                "read both from the same nvidia-smi",
            )
        return name, gpu
    if pci_id and (gpu := gpu_with_pci_id(tables, pci_id)):
        doubts.append(f"uncertain: {name or 'a GPU without a name'} taken as {gpu.names[0]} by its PCI id {pci_id}")
        return name or gpu.names[0], gpu
    if capability and (gpu := gpu_of_capability(tables, name or f"GPU {pci_id}".strip(), capability)):
        doubts.append(f"uncertain: {gpu.id} is not in the data; judged by its compute capability {dotted(capability)}")
        return gpu.id, gpu
    near = nearest_names(tables, name)
    raise StackError(
        "BP141",
        f"unknown GPU {name or pci_id or '(no name)'!r}"
        + (f", nearest known names: {', '.join(near)}" if near else ""),
        "give the name as nvidia-smi prints it, a pci_id, or compute_cap (nvidia-smi --query-gpu=name,compute_cap)",
    )


def dotted(capability: Capability) -> str:
    """(8, 6) -> '8.6'."""
    return f"{capability[0]}.{capability[1]}"


def _capability(value: Any) -> Capability | None:
    found = _version("compute_cap", value, "a number such as 8.6")
    return (found.parts[0], found.parts[1] if len(found.parts) > 1 else 0) if found else None


def _driver(tables: Tables, value: Any, doubts: list[str]) -> Version | None:
    driver = _version("driver", value, "a version such as 570.211.01, or null")
    if driver is None:
        return None
    branch = tables.branch(driver)
    if len(driver.parts) == 1 and branch:
        doubts.append(f"uncertain: only the driver branch is known, taken as {branch.last_known}")
        return branch.last_known
    if branch is None and driver.major > max(tables.branches):
        doubts.append(f"uncertain: driver branch {driver.major} is newer than the data")
    # A distribution's revision is no part of the driver's version: 535.216.01-1~deb12u1.
    return version(re.split(r"[-~ ]", driver.text)[0])


def _os(tables: Tables, value: Any, doubts: list[str]) -> tuple[str, Version | None]:
    """'ubuntu-22.04' or {id, version, glibc} -> name, glibc. Without a measured glibc, that of the distribution release."""
    if isinstance(value, str):
        name, _, release = value.partition("-") if value.count("-") == 1 else value.rpartition("-")
        value = {"id": name or release, "version": release if name else ""}
    if not value:
        return "", None
    if not isinstance(value, Mapping):
        raise _unreadable("os", value, "{id, version, glibc} or a text such as ubuntu-22.04")
    name, release = (str(value.get(key) or "").lower() for key in ("id", "version"))
    label = f"{name} {release}".strip()
    if value.get("glibc"):
        return label, _version("glibc", value["glibc"], "a version such as 2.35")
    known = tables.glibc_of_os.get(name, {})
    fields = release.lstrip("v").split(".")
    for length in range(len(fields), 0, -1):
        if found := known.get(".".join(fields[:length])):
            return label, found
    doubts.append(f"uncertain: the glibc of {label or 'the host'} is not known, so it was not compared")
    return label, None


def _arch(value: Any, gpus: tuple[tuple[str, Gpu], ...]) -> str:
    built_in = {gpu.cpu_arch: name for name, gpu in gpus if gpu.cpu_arch}
    arch = str(value or next(iter(built_in), None) or "x86_64").lower()
    arch = _ARCHITECTURES.get(arch, arch)
    for wanted, name in built_in.items():
        if arch != wanted:
            raise StackError(
                "BP143",
                f"the facts contradict themselves: {name} is part of a {wanted} machine, arch says {arch}",
                "correct arch",
            )
    return arch


def _compat(tables: Tables, value: Any) -> CompatPackage | None:
    """'cuda-compat-13-0', '13.0', the version of its driver libraries, or a mapping with package and version."""
    if isinstance(value, Mapping):
        value = " ".join(str(value[key]) for key in ("package", "version") if value.get(key))
    text = _text("cuda_compat", value)
    if not text:
        return None
    if match := _COMPAT.fullmatch(text):
        cuda, libs = f"{match['major']}.{match['minor']}", match["libs"]
    elif re.fullmatch(r"\d{3}\.[\d.]+", text) and (branch := tables.branch(version(text))):
        cuda, libs = branch.cuda.text, text
    else:
        raise _unreadable("cuda_compat", text, "a package such as cuda-compat-13-0")
    package = tables.compat.get(cuda) or _unlisted_compat(tables, cuda)
    if package is None:
        raise _unreadable("cuda_compat", text, "a package of a CUDA release in the data")
    if libs:
        return CompatPackage(package.name, package.cuda, version(libs), package.bases, package.bases_uncertain)
    return package


def _unlisted_compat(tables: Tables, cuda: str) -> CompatPackage | None:
    """A compat package the data does not list: its libraries are those of the driver paired with the newest such toolkit."""
    wanted = version(cuda)
    drivers = [kit.driver for kit in tables.toolkits if kit.cuda.parts[:2] == wanted.parts and kit.driver]
    if not drivers:
        return None
    return CompatPackage(f"cuda-compat-{cuda.replace('.', '-')}", wanted, max(drivers), None, True)


def _library_name(name: Any) -> str:
    return str(name).lower().replace("_", "-")


def _library_version(name: Any, value: Any) -> Version | None:
    text = _text(f"libs.{name}", value)
    if text in ("auto", "any", "latest"):
        return None
    return _version(f"libs.{name}", text.removeprefix("==") if text else None, "one version such as 4.57.1")


def _version(name: str, value: Any, wanted: str) -> Version | None:
    text = _text(name, value)
    if not text:
        return None
    try:
        return version(text)
    except ValueError:
        raise _unreadable(name, text, wanted) from None


def _text(name: str, value: Any) -> str | None:
    if value is None or str(value).strip().lower() in ("", "none", "null"):
        return None
    if isinstance(value, float):
        # YAML reads an unquoted 3.10 as 3.1; there never was a Python 3.1 with wheels.
        if name == "python" and value == 3.1:
            return "3.10"
        if name == "torch" and value == 2.1:
            raise _unreadable(name, value, "a version in quotes: YAML cannot tell 2.10 from 2.1")
    if isinstance(value, bool | list | tuple | Mapping):
        raise _unreadable(name, value, "one text")
    return str(value).strip()


def _unreadable(name: str, found: Any, wanted: str) -> StackError:
    return StackError("BP142", f"{name} cannot be read: found {found!r}, wanted {wanted}", "correct it in the question")
