"""Whether the driver runs a CUDA variant: floors per major, minor-version compatibility, forward compatibility (cuda-compat)."""

from __future__ import annotations

from collections.abc import Iterable

from .findings import Finding, Problem
from .host import Host
from .tables import Branch, CompatPackage, Cuda, Tables
from .versions import Version


def compat_finding(tables: Tables, host: Host) -> Finding:
    """Whether the installed cuda-compat package may be used: data-centre GPUs only, newer than the driver, an accepted base."""
    package, driver = host.compat, host.driver
    if package is None or driver is None or not host.gpus:
        return Finding("")
    problems = tuple(_compat_problems(tables, host, package, driver))
    accepted, uncertain = accepts_base(tables, package, driver.major)
    doubt = f"uncertain: NVIDIA's list of driver branches that {package.name} accepts is known in part only"
    refused_by_base = not accepted and [problem.reason for problem in problems] == ["forward_compat_refused"]
    use = f"forward compatibility: {package.name} puts libcuda {package.libs} on top of driver {driver}; keep it in LD_LIBRARY_PATH"
    return Finding(
        f"{package.name}: driver libraries {package.libs} over driver {driver}",
        problems,
        (use,) if not problems else (),
        (doubt,) if uncertain and (not problems or refused_by_base) else (),
    )


def _compat_problems(tables: Tables, host: Host, package: CompatPackage, driver: Version) -> Iterable[Problem]:
    ceilings = [(gpu.max_branch, gpu) for gpu in host.models if gpu.max_branch]
    others = [gpu for gpu in host.models if gpu.kind != "datacenter"]
    if others:
        text = f"{package.name} works on data-centre GPUs only; CUDA error 804 on " + ", ".join(
            f"{gpu.names[0]} ({gpu.kind})" for gpu in others
        )
        yield Problem("forward_compat_refused", text, frozenset(gpu.id for gpu in others))
    if package.libs.parts <= driver.parts[: len(package.libs.parts)]:
        text = f"{package.name} (libraries {package.libs}) is not newer than driver {driver}: CUDA error 803"
        yield Problem("compat_package_older_than_driver", text)
    elif not accepts_base(tables, package, driver.major)[0]:
        yield Problem(
            "forward_compat_refused", f"{package.name} does not accept R{driver.major} as the driver underneath"
        )
    for ceiling, gpu in ceilings:
        if package.libs.major > ceiling:
            text = (
                f"the libraries of {package.name} (R{package.libs.major}) no longer serve {gpu.names[0]} ({gpu.arch})"
            )
            yield Problem("driver_dropped_gpu", text, frozenset({gpu.id}))


def accepts_base(tables: Tables, package: CompatPackage, base: int) -> tuple[bool, bool]:
    """Whether a package accepts a driver branch underneath, and whether that is uncertain.

    Where NVIDIA's list is not known, its rule is used: a long-term or production branch alive when the package came out.
    """
    if package.bases is not None:
        return base in package.bases, package.bases_uncertain
    branch, libs = tables.branches.get(base), tables.branch(package.libs)
    return branch is not None and libs is not None and _alive(branch, libs.first_date), True


def _alive(branch: Branch, day: str) -> bool:
    return branch.kind in ("LTSB", "PB") and (branch.end_of_life is None or branch.end_of_life >= day[:7])


def cuda_finding(tables: Tables, host: Host, cuda: Cuda, compat_works: bool) -> Finding:
    """Whether the driver, or the cuda-compat libraries on top of it if they work, run this variant."""
    driver, compat = host.driver, host.compat if compat_works else None
    if driver is None:
        return Finding(f"CUDA: {cuda.variant} needs driver {cuda.min_driver} or newer")
    if compat and compat.cuda.major >= cuda.version.major:
        compared = (
            f"CUDA: {cuda.variant} needs CUDA {cuda.version.major} driver libraries; {compat.name} brings {compat.cuda}"
        )
        return Finding(compared, minor_compat=compat.cuda < cuda.version, forward_compat=True)
    if compat is None and driver >= cuda.min_driver:
        minor = driver < cuda.paired_driver
        way = "runs it by minor-version compatibility" if minor else "runs it fully"
        compared = f"CUDA: {cuda.variant} needs driver {cuda.min_driver}, {cuda.paired_driver} for every feature; {driver} {way}"
        return Finding(compared, minor_compat=minor)
    return _too_old(tables, driver, cuda, compat)


def _too_old(tables: Tables, driver: Version, cuda: Cuda, compat: CompatPackage | None) -> Finding:
    branch = tables.branch(driver)
    api = compat.cuda if compat else branch.cuda if branch else None
    seen = f", torch would say: found version {1000 * api.major + 10 * api.parts[1]}" if api else ""
    have = f"{compat.name} over driver {driver}" if compat else f"driver {driver}"
    text = f"CUDA {cuda.version} ({cuda.variant}) needs driver {cuda.min_driver} or newer, found {have}{seen}"
    compared = f"CUDA: {cuda.variant} needs driver {cuda.min_driver} or newer; found {have}"
    return Finding(compared, (Problem("driver_too_old_for_cuda", text),))


def driver_cuda(tables: Tables, host: Host, compat_works: bool) -> Version | None:
    """The CUDA version the driver side speaks: what nvidia-smi prints, or that of the cuda-compat libraries in use."""
    if compat_works and host.compat:
        return host.compat.cuda
    branch = tables.branch(host.driver) if host.driver else None
    return branch.cuda if branch else None
