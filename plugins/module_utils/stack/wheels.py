"""Which wheels exist for a machine, which carry kernels its GPUs can run, and on which system they load."""

from __future__ import annotations

from .findings import Finding, Problem
from .host import Host, dotted
from .stacks import LockedStack, Stack
from .tables import Capability, Cuda, Gpu, Release, Tables, Wheel
from .versions import Version, satisfies


def published_finding(tables: Tables, host: Host, stack: Stack) -> Finding:
    """Whether this release was published in this variant for the machine's architecture."""
    release, arch = stack.release, host.arch
    if release is None:
        oldest, newest = tables.releases[-1].version, tables.releases[0].version
        return _unpublished(stack, f"torch {stack.torch} is not among the known releases ({oldest} to {newest})")
    if arch not in release.pypi_variant:
        return _unpublished(stack, f"there are no torch wheels for {arch}")
    variants = release.wheels.get(arch, {})
    if stack.variant == "cpu":
        if stack.plain and host.gpus:
            text = f"the wheel of torch {release.version} for {arch} that pip takes by itself is CPU only"
            return _unpublished(stack, text, "cpu_only_wheel")
        return Finding(f"wheel: {stack.name} for {arch}")
    if not variants:
        return _unpublished(stack, f"torch {release.version} for {arch} was published for CPU only", "cpu_only_wheel")
    if stack.variant not in variants or stack.variant not in tables.cuda:
        text = f"torch {release.version} for {arch} was published as {', '.join(variants)}, not as {stack.variant}"
        return _unpublished(stack, text)
    return Finding(f"wheel: {stack.name} for {arch}")


def locked_finding(host: Host, stack: Stack, locked: tuple[LockedStack, ...]) -> Finding:
    """Whether the wheels of a stack are locked by hash for this host."""
    if any((one.torch, one.variant) == (stack.torch, stack.variant) for one in locked):
        return Finding("")
    have = ", ".join(one.name.removeprefix("torch ") for one in locked) or "none"
    python = f", Python {python_series(host.python)}" if host.python else ""
    return Finding("", (Problem("not_locked", f"{stack.name} has no lock for {host.arch}{python}; locked are {have}"),))


def _unpublished(stack: Stack, text: str, reason: str = "variant_not_published") -> Finding:
    return Finding(f"wheel: {stack.name}: {text}", (Problem(reason, text),))


def kernel_for(tables: Tables, wheel: Wheel, capability: Capability, cuda: Version) -> Capability | None:
    """The kernel a GPU runs: the highest of its own major number whose minor is not above the GPU's (torch.yml match_rule)."""
    major, minor = tables.alias_of.get(capability, capability)
    excepted = {
        kernel
        for rule in tables.exceptions
        if rule.capability == (major, minor) and (rule.until_cuda is None or cuda < rule.until_cuda)
        for kernel in rule.kernels
    }
    fitting = (k for k in wheel.kernels if k[0] == major and k[1] <= minor and k not in excepted)
    return max(fitting, default=None)


def kernels_finding(
    tables: Tables, host: Host, stack: Stack, wheel: Wheel, cuda: Cuda, speaks: Version | None
) -> Finding:
    """Whether every GPU of the host runs this wheel. speaks: the CUDA version of the driver side; PTX needs cuda's or newer."""
    problems, warnings = [], []
    for gpu in host.models:
        if kernel_for(tables, wheel, gpu.capability, cuda.version) is None:
            problem, warning = _without_kernel(stack, wheel, gpu, cuda, speaks)
            problems += problem
            warnings += warning
        if stack.release:
            for note in tables.gpu_notes:
                if note.capability == gpu.capability and satisfies(stack.release.version, note.torch):
                    warnings.append(note.text)
    warnings += _wheel_doubts(tables, host, stack, wheel, cuda)
    have = ", ".join(map(dotted, wheel.kernels)) + "".join(f", PTX {dotted(ptx)}" for ptx in wheel.ptx)
    need = ", ".join(dict.fromkeys(dotted(gpu.capability) for gpu in host.models))
    plain = stack.release.pypi_variant.get(host.arch) if stack.release else None
    where = f" ({host.arch}; plain pip would take the CPU wheel)" if plain == "cpu" else f" ({host.arch})"
    return Finding(
        f"wheel: {stack.name}{where} has kernels for {have}; the GPUs are {need}", tuple(problems), tuple(warnings)
    )


def _without_kernel(
    stack: Stack, wheel: Wheel, gpu: Gpu, cuda: Cuda, speaks: Version | None
) -> tuple[list[Problem], list[str]]:
    name, capability = gpu.names[0], dotted(gpu.capability)
    if any(ptx <= gpu.capability for ptx in wheel.ptx):
        if speaks is None or speaks >= cuda.version:
            return [], [
                f"{stack.name} has no kernel for {name} ({capability}); its PTX is compiled at first use, which is slow"
            ]
        text = (
            f"{name} ({capability}) could only use the PTX of {stack.name}, which a CUDA {speaks} driver cannot compile"
        )
    else:
        text = f"{stack.name} has no kernel for {name} (compute capability {capability})"
    return [Problem("gpu_arch_missing", text, frozenset({gpu.id}))], []


def _wheel_doubts(tables: Tables, host: Host, stack: Stack, wheel: Wheel, cuda: Cuda) -> list[str]:
    """What the data is unsure of in this wheel, if it matters for these GPUs."""
    if not wheel.uncertain:
        return []
    for gpu in host.models:
        doubted = kernel_for(tables, wheel, gpu.capability, cuda.version) if not wheel.doubted else None
        could = [k for k in wheel.doubted if k[0] == gpu.capability[0] and k[1] <= gpu.capability[1]]
        if doubted or could:
            return [f"uncertain: {stack.name}: {wheel.note or 'its kernel list was inferred'}"]
    return []


def system_finding(host: Host, release: Release, variant: str) -> Finding:
    """Whether the release has wheels for the Python and loads with the C library of the host."""
    problems, warnings = [], []
    glibc = release.glibc_of_variant.get(variant, release.glibc)
    if host.glibc and host.glibc < glibc:
        text = (
            f"torch {release.version}+{variant} needs glibc {glibc} or newer, {host.os or 'the host'} has {host.glibc}"
        )
        problems.append(Problem("glibc_too_old", text))
    python = python_series(host.python)
    if python in release.python_experimental:
        warnings.append(f"Python {python} wheels of torch {release.version} were early ones")
    elif python and python not in release.python:
        text = f"torch {release.version} has wheels for Python {', '.join(release.python)}, not for {python}"
        problems.append(Problem("python_unsupported", text))
    compared = (
        f"system: Python {python or 'not said'} (wheels for {release.python[0]} to {release.python[-1]}), "
        f"glibc {host.glibc or 'not said'} (needs {glibc})"
    )
    return Finding(compared, tuple(problems), tuple(warnings))


def python_series(python: Version | None) -> str | None:
    """'3.12' of Python 3.12.4. A build of another kind (3.13t) is a series of its own."""
    if python is None:
        return None
    suffix = "t" if python.text.endswith("t") else ""
    return ".".join(map(str, python.parts[:2])) + suffix
