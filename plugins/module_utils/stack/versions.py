"""Version numbers, requirements (`>=2.1,<2.7`) and spans (`4.28 … 4.30`) as the data writes them."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache

Parts = tuple[int, ...]

_COMPARE: dict[str, Callable[[Parts, Parts], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
}
_CLAUSE = re.compile(r"(>=|<=|==|!=|>|<)\s*([\d.]+)")


@dataclass(frozen=True, order=True, slots=True)
class Version:
    """A dotted number, compared field by field as integers: 570.26 < 570.86.15 < 570.124.06."""

    parts: Parts
    text: str = field(compare=False)

    def __str__(self) -> str:
        return self.text

    @property
    def major(self) -> int:
        """The first field: of a driver, its branch."""
        return self.parts[0]


@lru_cache(maxsize=4096)
def version(text: str) -> Version:
    """'570.211.01' or '0.0.26.post1' as a Version; the local part of '2.9.1+cu128' is no part of it. Raises ValueError."""
    public = text.strip().split("+")[0]
    if not re.match(r"v?\d", public):
        raise ValueError(f"not a version number: {text!r}")
    return Version(tuple(int(number) for number in re.findall(r"\d+", public)), text.strip())


@lru_cache(maxsize=4096)
def satisfies(wanted: Version, requirement: str) -> bool:
    """Whether a version meets a requirement: '>=2.1,<2.7', '==2.9.1'; one that starts with 'any' asks for nothing."""
    if requirement.startswith("any"):
        return True
    clauses = _CLAUSE.findall(requirement)
    if not clauses:
        raise ValueError(f"not a requirement: {requirement!r}")
    return all(_COMPARE[sign](wanted.parts, version(number).parts) for sign, number in clauses)


@lru_cache(maxsize=4096)
def in_span(wanted: Version, span: str) -> bool:
    """Whether a version lies in a span, both ends included as far as they are written: 4.30.2 is in '4.28 … 4.30'.

    Also '4.37' and '1.0.x' (that series) and '0.20 …' (from there on).
    """
    if "…" not in span:
        series = _prefix(span)
        return _as_long(wanted, series) == series
    low, high = (_prefix(end) for end in span.split("…"))
    return _as_long(wanted, low) >= low and (not high or _as_long(wanted, high) <= high)


def _as_long(wanted: Version, limit: Parts) -> Parts:
    """As many fields of a version as a limit has: 0.20 is 0.20.0."""
    return (*wanted.parts, *(0 for _ in limit))[: len(limit)]


def span_ends(span: str) -> tuple[str, str]:
    """First and last version written in a span; of a single version, itself twice. An open end is ''."""
    ends = [end.strip().removesuffix(".x") for end in span.split("…")]
    return ends[0], ends[-1]


def _prefix(text: str) -> Parts:
    return tuple(int(number) for number in re.findall(r"\d+", text))
