"""What else would work: stacks near the wish that are ok themselves, on the host as it is or with what must change."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain, islice
from typing import Any

from .assess import Assessment, assess_host, is_ok
from .drivers import branch_has, driver_needs, driver_plan
from .host import Host, Wish
from .search import candidates
from .stacks import Stack
from .tables import Library, LibraryRow, Tables
from .versions import satisfies, span_ends, version

COUNT = 2
# A host on which nothing works is not searched for longer than this many stacks.
SEARCHED = 250
LIBRARY_REASONS = ("lib_conflict", "gpu_below_lib_min")


def alternatives(tables: Tables, host: Host, wish: Wish, found: Assessment) -> tuple[dict[str, Any], ...]:
    """Up to two stacks that are ok, other than the one found: first on this host, then on one changed a little.

    Each names torch and variant; driver, kernel_module, cuda_compat and libs only where they differ from the question.
    """
    chosen: list[dict[str, Any]] = []
    for possible in changed_hosts(tables, host, found):
        for stack in _ok_stacks(tables, possible, wish, found):
            described = _described(host, possible, wish, stack)
            if all((described["torch"], described["variant"]) != (each["torch"], each["variant"]) for each in chosen):
                chosen.append(described)
            if len(chosen) == COUNT:
                return tuple(chosen)
    # Where no GPU stack is left, the CPU still computes.
    if host.gpus and found.problems and not chosen:
        on_cpu = replace(found, stack=replace(found.stack, variant="cpu", plain=False))
        stacks = _ok_stacks(tables, host, replace(wish, variant="cpu"), on_cpu)
        firsts = {(stack.torch, stack.variant): stack for stack in reversed([*islice(stacks, COUNT)])}
        chosen = [_described(host, host, wish, stack) for stack in reversed(firsts.values())]
    return tuple(chosen)


def changed_hosts(tables: Tables, host: Host, found: Assessment) -> Iterator[Host]:
    """The host as it is, then without cuda-compat, with the other module flavour, with the driver to install."""
    if host.driver or _for_cpu(host, found):
        yield host
    if host.compat and host.driver:
        yield replace(host, compat=None)
    if host.driver and host.gpus:
        branch, flavours = tables.branch(host.driver), driver_needs(host.models).flavours
        if branch and host.kernel_module and host.kernel_module not in flavours:
            yield from (
                replace(host, compat=None, kernel_module=flavour) for flavour in flavours if branch_has(branch, flavour)
            )
    cuda = tables.cuda.get(found.stack.variant)
    plan = driver_plan(tables, host.models, cuda) or driver_plan(tables, host.models, None) if host.gpus else None
    if plan:
        yield replace(host, driver=plan.branch.last_known, kernel_module=plan.flavour, compat=None)


def _ok_stacks(tables: Tables, host: Host, wish: Wish, found: Assessment) -> Iterator[Stack]:
    """Different stacks that are ok, the nearest to the wish first; without the one found, unless it was rejected."""
    base = assess_host(tables, host, wish.stacks)
    if base.problems and not _for_cpu(host, found):
        return
    judged: dict[object, bool] = {}

    def ok(stacks: Iterable[Stack]) -> Iterator[Stack]:
        for stack in stacks:
            key = (stack.torch, stack.variant, tuple(stack.libs.items()))
            if key not in judged and len(judged) < SEARCHED:
                same = not found.problems and stack == found.stack
                judged[key] = not same and is_ok(tables, base, stack)
            if judged.get(key):
                yield stack

    near = [list(candidates(tables, host, each)) for each in _near_wishes(host, wish, found)]
    other = list(_other_libraries(tables, host, wish, found)) if found.problems else []
    by_library = bool(found.problems) and found.reasons[0] in LIBRARY_REASONS and wish.torch is not None
    firsts = [islice(ok(group), 1) for group in ([other] if by_library else []) + near]
    given: list[Stack] = []
    for stack in chain(*firsts, *map(ok, near), ok(other)):
        if stack not in given:
            given.append(stack)
            yield stack


def _for_cpu(host: Host, found: Assessment) -> bool:
    """Whether CPU stacks are what is looked for: they were wished for, or there is no GPU."""
    return not host.gpus or (found.stack.variant == "cpu" and not found.stack.plain)


def _near_wishes(host: Host, wish: Wish, found: Assessment) -> list[Wish]:
    """The same torch in another variant, the same variant of another torch, anything."""
    torch = found.stack.torch if found.stack.release else None
    if _for_cpu(host, found):
        return [replace(wish, torch=torch, variant="cpu"), replace(wish, torch=None, variant="cpu")]
    variant = None if found.stack.plain else found.stack.variant
    near = ((torch, None), (None, variant), (None, None))
    return [replace(wish, torch=torch, variant=variant) for torch, variant in near]


def _other_libraries(tables: Tables, host: Host, wish: Wish, found: Assessment) -> Iterator[Stack]:
    """The wish with another version of a library: of a companion the partner of this torch, of others the newest that fits."""
    release = found.stack.release
    for name, wanted in wish.libs.items():
        if release and name in release.companions:
            yield replace(found.stack, libs={**wish.libs, name: release.companions[name]})
        elif name in tables.libraries and wanted:
            yield from _other_versions(tables, host, wish, tables.libraries[name])


def _other_versions(tables: Tables, host: Host, wish: Wish, library: Library) -> Iterator[Stack]:
    """First with the torch and variant wished for, then with any; the newest version first."""
    for torch, variant in dict.fromkeys(((wish.torch, wish.variant), (None, wish.variant), (None, None))):
        for row in reversed(library.rows):
            end = span_ends(row.span)[1]
            if end[:1].isdigit() and _may_fit(host, row):
                libs = {**wish.libs, library.name: version(end)}
                for stack in candidates(tables, host, Wish(torch, variant, libs)):
                    if stack.release and satisfies(stack.release.version, row.torch):
                        yield stack


def _may_fit(host: Host, row: LibraryRow) -> bool:
    """Whether no rule about the host alone excludes a row: saves judging it with every torch."""
    lowest = min((gpu.capability for gpu in host.models), default=None)
    too_old = row.capability and lowest and lowest < row.capability
    return not too_old and (host.python is None or satisfies(host.python, row.python))


def _described(host: Host, possible: Host, wish: Wish, stack: Stack) -> dict[str, Any]:
    described: dict[str, Any] = {"torch": stack.torch, "variant": stack.variant}
    if possible.driver and possible.driver != host.driver:
        described["driver"] = possible.driver.text
    if possible.kernel_module != host.kernel_module:
        described["kernel_module"] = possible.kernel_module
    if host.compat and not possible.compat:
        described["cuda_compat"] = None
    if stack.libs != wish.libs:
        described["libs"] = {name: wanted.text if wanted else None for name, wanted in stack.libs.items()}
    return described
