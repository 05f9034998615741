"""Which drivers serve a host's GPUs: branch floors and ceilings, and the flavour of the kernel modules."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from .findings import Finding, Problem
from .host import Host
from .tables import Branch, Cuda, Gpu, Tables
from .versions import Version

FLAVOURS = {"unsupported": ("proprietary",), "supported": ("open", "proprietary"), "required": ("open",)}


@dataclass(frozen=True, slots=True)
class DriverNeeds:
    """What GPUs need together: drivers from `floor` to branch `ceiling` (None: no end), with one of the flavours."""

    floor: Version
    ceiling: int | None
    flavours: tuple[str, ...]

    @property
    def possible(self) -> bool:
        """Whether any one driver serves them all."""
        return bool(self.flavours) and (self.ceiling is None or self.floor.major <= self.ceiling)

    def __str__(self) -> str:
        upper = f"to R{self.ceiling}" if self.ceiling else "and newer"
        return f"{self.floor} {upper}, {' or '.join(self.flavours) or 'no common'} modules"


@dataclass(frozen=True, slots=True)
class DriverPlan:
    """A driver to install: its branch, the module flavour, and the oldest of the branch that will do, if not all do."""

    branch: Branch
    flavour: str
    at_least: Version | None

    def __str__(self) -> str:
        oldest = f" ({self.at_least} or newer)" if self.at_least else ""
        return f"driver {self.branch.number}{oldest} with the {self.flavour} kernel modules"


def driver_needs(gpus: Iterable[Gpu]) -> DriverNeeds:
    """The needs of several GPUs in one host."""
    models = list(gpus)
    return DriverNeeds(
        floor=max(gpu.min_driver for gpu in models),
        ceiling=min((gpu.max_branch for gpu in models if gpu.max_branch), default=None),
        flavours=tuple(
            flavour
            for flavour in ("open", "proprietary")
            if all(flavour in FLAVOURS[gpu.open_module] for gpu in models)
        ),
    )


def driver_plan(
    tables: Tables, gpus: Iterable[Gpu], cuda: Cuda | None, branches: Collection[int] | None = None
) -> DriverPlan | None:
    """The driver to install for GPUs and, if given, a CUDA variant; None if no driver serves both.

    The branch recommended for servers if it will do, else the newest long-term or production one that does. Open modules
    where the GPUs allow it and the branch makes them its default. branches: choose among these only.
    """
    needs = driver_needs(gpus)
    floor = max(needs.floor, cuda.min_driver) if cuda else needs.floor
    fitting = [
        branch
        for branch in tables.branches.values()
        if floor <= branch.last_known
        and branch.number <= (needs.ceiling or branch.number)
        and (branches is None or branch.number in branches)
    ]
    fitting.sort(
        key=lambda b: (b.number == tables.recommended_branch, b.kind in ("LTSB", "PB"), b.number), reverse=True
    )
    for branch in fitting:
        wanted = [flavour for flavour in needs.flavours if branch_has(branch, flavour)]
        if wanted:
            flavour = wanted[0] if branch.open_module in ("default", "only") else wanted[-1]
            return DriverPlan(branch, flavour, floor if floor.major == branch.number else None)
    return None


def driver_finding(tables: Tables, host: Host) -> Finding:
    """Whether the installed driver, if any, serves every GPU, and whether any driver could."""
    if not host.gpus:
        return Finding("")
    driver, needs, problems = host.driver, driver_needs(host.models), []
    if not needs.possible:
        problems.append(Problem("mixed_gpus", f"no driver serves these GPUs together: {each_need(host.models)}"))
    if driver is None:
        return Finding(f"driver: none; the GPUs need drivers {needs}", tuple(problems))
    branch = tables.branch(driver)
    problems += [problem for gpu in host.models for problem in _gpu_problems(host, driver, branch, gpu)]
    api = f", CUDA {branch.cuda}" if branch else ""
    module = f" with the {host.kernel_module} modules" if host.kernel_module else " (modules not said)"
    compared = f"driver: {driver} (R{driver.major}{api}){module}; the GPUs need drivers {needs}"
    return Finding(compared, tuple(problems), tuple(_warnings(host, driver)), tuple(_doubts(host, driver)))


def each_need(gpus: Iterable[Gpu]) -> str:
    """'Tesla P40 needs drivers 375 to R580, proprietary modules; NVIDIA B200 needs …'"""
    return "; ".join(f"{gpu.names[0]} needs drivers {driver_needs([gpu])}" for gpu in gpus)


def _gpu_problems(host: Host, driver: Version, branch: Branch | None, gpu: Gpu) -> Iterable[Problem]:
    name, concerned = gpu.names[0], frozenset({gpu.id})
    if gpu.max_branch and driver.major > gpu.max_branch:
        text = f"R{driver.major} no longer drives {name} ({gpu.arch}): R{gpu.max_branch} is its last branch"
        yield Problem("driver_dropped_gpu", text, concerned)
    elif driver < gpu.min_driver:
        text = f"{name} needs driver {gpu.min_driver} or newer, found {driver}"
        yield Problem("driver_too_old_for_gpu", text, concerned)
    module = host.kernel_module
    if module and module not in FLAVOURS[gpu.open_module]:
        text = f"{name} ({gpu.arch}) works only with the {FLAVOURS[gpu.open_module][0]} kernel modules, found {module}"
        yield Problem("kernel_module_flavour", text, concerned)
    elif module and branch and not branch_has(branch, module):
        yield Problem("kernel_module_flavour", f"R{branch.number} has no {module} kernel modules")


def branch_has(branch: Branch, flavour: str) -> bool:
    """Whether a branch comes with modules of this flavour."""
    return branch.open_module not in (("absent",) if flavour == "open" else ("only",))


def _warnings(host: Host, driver: Version) -> Iterable[str]:
    # drivers.yml open_module_rules early_geforce.
    boards = [gpu.names[0] for gpu in host.models if gpu.kind != "datacenter" and gpu.open_module == "supported"]
    if host.kernel_module == "open" and 515 <= driver.major <= 535 and boards:
        yield (
            f"uncertain: the open modules of R{driver.major} drive {', '.join(boards)} only with "
            "NVreg_OpenRmEnableUnsupportedGpus=1"
        )


def _doubts(host: Host, driver: Version) -> Iterable[str]:
    for gpu in host.models:
        if gpu.min_driver_uncertain and gpu.min_driver.major == driver.major:
            yield f"uncertain: the first driver of {gpu.names[0]} ({gpu.min_driver}) is sure in its branch, not in its patch"
