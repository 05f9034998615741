"""A stack judged on a host: every rule's finding, and the verdict they add up to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

from .cuda import compat_finding, cuda_finding, driver_cuda
from .drivers import driver_finding
from .findings import REASONS, Finding, Problem
from .host import Host, dotted
from .libs import libraries_finding
from .stacks import LockedStack, Stack
from .tables import Gpu, Tables
from .wheels import kernels_finding, locked_finding, published_finding, python_series, system_finding


@dataclass(frozen=True)
class HostAssessment:
    """What holds for a host whatever stack is put on it: judged once, used for every candidate."""

    host: Host
    gpus: Finding
    driver: Finding
    compat: Finding
    # The stacks the wish allows; None: all.
    locked: tuple[LockedStack, ...] | None = None

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What keeps every CUDA stack from working."""
        return self.driver.problems + self.compat.problems

    @property
    def compat_works(self) -> bool:
        """Whether cuda-compat libraries are in use and may be."""
        return bool(self.compat.compared) and not self.compat.problems


@dataclass(frozen=True)
class Assessment:
    """A stack on a host. findings are in the order the explanation tells them."""

    stack: Stack
    host: Host
    findings: tuple[Finding, ...]
    # What would have been chosen, had it a lock.
    unlocked: Stack | None = None

    @cached_property
    def problems(self) -> tuple[Problem, ...]:
        """The most fundamental first."""
        found = [problem for finding in self.findings for problem in finding.problems]
        return tuple(sorted(found, key=lambda problem: REASONS.index(problem.reason)))

    @property
    def warnings(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(warning for finding in self.findings for warning in finding.warnings))

    @property
    def doubts(self) -> tuple[str, ...]:
        return tuple(
            dict.fromkeys((*self.host.doubts, *(doubt for finding in self.findings for doubt in finding.doubts)))
        )

    @property
    def verdict(self) -> str:
        if self.problems:
            return "reject"
        return "ok_with_warning" if self.warnings else "ok"

    @property
    def minor_compat(self) -> bool:
        return any(finding.minor_compat for finding in self.findings)

    @property
    def forward_compat(self) -> bool:
        return any(finding.forward_compat for finding in self.findings)

    @property
    def reasons(self) -> tuple[str, ...]:
        """The main reason, then the others. What fits only some of a host's generations is also a matter of the mix."""
        named = dict.fromkeys(problem.reason for problem in self.problems)
        everyone = {gpu.id for gpu in self.host.models}
        if len({gpu.arch for gpu in self.host.models}) > 1 and any(
            problem.gpus and problem.gpus < everyone for problem in self.problems
        ):
            named["mixed_gpus"] = None
        return tuple(named)


def assess_host(tables: Tables, host: Host, locked: tuple[LockedStack, ...] | None = None) -> HostAssessment:
    """Judge what the host brings, before any stack. locked: the stacks the wish allows, of which those for this host remain."""
    if locked is not None:
        python = python_series(host.python)
        locked = tuple(stack for stack in locked if stack.serves(host.arch, python))
    return HostAssessment(
        host, Finding(f"GPU: {_listed(host)}"), driver_finding(tables, host), compat_finding(tables, host), locked
    )


def assess(tables: Tables, base: HostAssessment, stack: Stack) -> Assessment:
    """Judge one stack on a host by every rule."""
    return Assessment(stack, base.host, tuple(_findings(tables, base, stack)))


def is_ok(tables: Tables, base: HostAssessment, stack: Stack) -> bool:
    """Whether a stack's verdict would be ok; asks no rule after the first that objects."""
    return all(finding.clean for finding in _findings(tables, base, stack))


def _findings(tables: Tables, base: HostAssessment, stack: Stack) -> Iterator[Finding]:
    """Rule by rule, from the hardware up. Rules that need a wheel are left out where there is none."""
    host, cuda = base.host, tables.cuda.get(stack.variant)
    if base.locked is not None:
        yield locked_finding(host, stack, base.locked)
    wheel = stack.release.wheels.get(host.arch, {}).get(stack.variant) if stack.release else None
    if stack.variant == "cpu":
        yield base.gpus
    else:
        absent = Problem("no_gpu", f"the host has no NVIDIA GPU, {stack.variant} needs one")
        yield base.gpus if host.gpus else replace(base.gpus, problems=(absent,))
        yield base.driver
        yield base.compat
    if cuda and host.gpus:
        yield cuda_finding(tables, host, cuda, base.compat_works)
    if wheel and cuda and host.gpus:
        speaks = driver_cuda(tables, host, base.compat_works)
        yield kernels_finding(tables, host, stack, wheel, cuda, speaks)
    else:
        yield published_finding(tables, host, stack)
    if stack.release:
        yield system_finding(host, stack.release, stack.variant)
        yield libraries_finding(tables, host, stack, stack.release)


def _listed(host: Host) -> str:
    """'2 x NVIDIA L4 (Ada, 8.9), Tesla T4 (Turing, 7.5)'."""
    counts: dict[tuple[str, Gpu], int] = {}
    for entry in host.gpus:
        counts[entry] = counts.get(entry, 0) + 1
    return (
        ", ".join(
            f"{f'{count} x ' if count > 1 else ''}{name} ({gpu.arch}, {dotted(gpu.capability)})"
            for (name, gpu), count in counts.items()
        )
        or "none"
    )
