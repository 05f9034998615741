"""Which stacks a wish allows, in the order they are preferred."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from .assess import Assessment, HostAssessment, assess
from .host import Host, Wish
from .stacks import Stack
from .tables import Release, Tables


def candidates(tables: Tables, host: Host, wish: Wish) -> Iterator[Stack]:
    """Every stack that is what was wished for: newest torch first, and of its variants the safest first."""
    releases = _releases(tables, wish.torch)
    if not releases:
        yield Stack(wish.torch or "auto", None, wish.variant or "auto", wish.libs)
    for release in releases:
        for variant, plain in _variants(tables, host, release, wish.variant):
            yield Stack(release.version.text, release, variant, wish.libs, plain)


def best(tables: Tables, base: HostAssessment, wish: Wish) -> Assessment:
    """The first candidate that is ok, else the first with a warning, else the one with the fewest problems.

    Where locks restrict the choice, the first that lacks nothing but a lock is named beside it.
    """
    judged: list[Assessment] = []
    for stack in candidates(tables, base.host, wish):
        judged.append(assess(tables, base, stack))
        if judged[-1].verdict == "ok":
            break
    ok, warned = ([one for one in judged if one.verdict == verdict] for verdict in ("ok", "ok_with_warning"))
    found = next(iter(ok + warned), None) or min(judged, key=_distance)
    unlocked = next((one.stack for one in judged if _lacks_only_a_lock(one) and not one.warnings), None)
    return replace(found, unlocked=unlocked)


def _distance(assessment: Assessment) -> tuple[int, bool, bool]:
    """How far a rejected stack is from working; one that lacks only its lock is the nearest."""
    return len(assessment.problems), not _lacks_only_a_lock(assessment), bool(assessment.warnings)


def _lacks_only_a_lock(assessment: Assessment) -> bool:
    return [problem.reason for problem in assessment.problems] == ["not_locked"]


def _releases(tables: Tables, torch: str | None) -> list[Release]:
    """The releases a wish names: all of them for auto, a whole series for '2.9', else exactly one, or none if unknown."""
    if torch is None:
        return list(tables.releases)
    exact = [release for release in tables.releases if release.version.text == torch]
    return exact or [release for release in tables.releases if release.version.text.startswith(f"{torch}.")]


def _variants(tables: Tables, host: Host, release: Release, wanted: str | None) -> Iterable[tuple[str, bool]]:
    """(variant, whether it is what plain pip takes). Without CUDA wheels, auto on a GPU host meets the plain CPU wheel."""
    if wanted == "pypi":
        return [(release.pypi_variant.get(host.arch, "cpu"), True)]
    if wanted:
        return [(wanted, False)]
    published = release.wheels.get(host.arch, {})
    if not published:
        return [("cpu", True)]
    return [
        (variant, False)
        for variant in sorted(published, key=lambda variant: _preference(tables, host, release, variant))
    ]


def _preference(tables: Tables, host: Host, release: Release, variant: str) -> tuple[bool, bool, tuple[int, ...]]:
    """Announced variants first; then those the driver runs fully, newest CUDA first; then the nearest by minor version."""
    cuda, off_matrix = tables.cuda[variant], release.wheels[host.arch][variant].off_matrix
    fully = host.driver is None or host.driver >= cuda.paired_driver
    order = tuple(-part for part in cuda.version.parts) if fully else cuda.version.parts
    return off_matrix, not fully, order
