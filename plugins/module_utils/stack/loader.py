"""The data files as tables. Damaged data is refused with the file and the place, never half-read."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import yaml

from . import rows
from .errors import StackError
from .tables import CompatPackage, Tables
from .versions import Version

DATA = Path(__file__).resolve().parent / "data"
FILES = ("cuda", "drivers", "gpus", "torch", "libs", "os")
# libyaml reads the files in a fifth of the time.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

T = TypeVar("T")


@cache
def load_tables(folder: Path = DATA) -> Tables:
    """All tables, read once per process. Raises StackError BP144 on a missing or damaged file."""
    files = {name: _read(folder / f"{name}.yml") for name in FILES}

    def table(file: str, path: str, build: Callable[[Any], T]) -> tuple[T, ...]:
        return _table(files[file], f"{file}.yml {path}", path.split("."), build)

    branches = table("drivers", "branches", rows.branch)
    libraries = table("libs", "libs", rows.library)
    variants = {row.variant: row for row in table("cuda", "pytorch_variants", rows.cuda)}
    releases = table("torch", "releases", rows.release)
    for variant in {name for release in releases for wheels in release.wheels.values() for name in wheels}:
        if variant not in variants:
            raise _damaged("torch.yml releases", f"variant {variant} has no row in cuda.yml pytorch_variants")
    return Tables(
        gpus=table("gpus", "gpus", rows.gpu),
        arch_of=dict(table("gpus", "meta.cc_to_arch", lambda item: (rows.capability(item[0]), str(item[1])))),
        alias_of=dict(
            table("torch", "match_rule.aliases", lambda a: (rows.capability(a["cc"]), rows.capability(a["same_as"])))
        ),
        architectures={row.name: row for row in table("drivers", "architectures", rows.architecture)},
        branches={row.number: row for row in branches},
        recommended_branch=int(table("drivers", "lifecycle.recommend_for_servers", lambda row: row.get("branch"))[0]),
        cuda=variants,
        compat=_compat_packages(
            table("cuda", "forward_compat.packages", rows.compat_package),
            table("cuda", "forward_compat.base_driver_rule.known_bases", rows.compat_bases),
        ),
        toolkits=table("cuda", "releases", rows.toolkit),
        releases=tuple(sorted(releases, key=lambda release: release.version, reverse=True)),
        exceptions=table("torch", "match_rule.exceptions", rows.kernel_exception),
        gpu_notes=table("torch", "gpu_notes", rows.gpu_note),
        companion_rules=table("torch", "companion_rules", rows.companion_rule),
        libraries={row.name: row for row in libraries},
        glibc_of_os=_glibc(table("os", "glibc", rows.glibc_of_os), table("os", "same_as", lambda item: item)),
    )


def _read(path: Path) -> Any:
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=_LOADER)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise _damaged(path.name, " ".join(str(error).split())) from error


def _table(data: Any, place: str, path: list[str], build: Callable[[Any], T]) -> tuple[T, ...]:
    """The rows at a path of a file (a mapping's rows are its items), each built; a damaged one is named by its number."""
    built: list[T] = []
    rows_begun = False
    try:
        for key in path:
            data = data[key]
        rows_begun = True
        for row in data.items() if isinstance(data, dict) else data:
            built.append(build(row))
    except (LookupError, TypeError, ValueError, AttributeError, re.error) as error:
        where = f"{place}, row {len(built) + 1}" if rows_begun else place
        raise _damaged(where, f"{type(error).__name__}: {error}") from error
    if not built:
        raise _damaged(place, "it is empty")
    return tuple(built)


def _damaged(place: str, cause: str) -> StackError:
    return StackError(
        "BP144",
        f"the resolver's data is damaged: {place}: {cause}",
        "restore plugins/module_utils/stack/data from this release of Bedplate",
    )


def _compat_packages(
    packages: tuple[CompatPackage, ...], bases: tuple[tuple[str, tuple[int, ...], bool], ...]
) -> dict[str, CompatPackage]:
    known = {name: (branches, uncertain) for name, branches, uncertain in bases}
    return {
        package.cuda.text: replace(package, bases=known[package.name][0], bases_uncertain=known[package.name][1])
        if package.name in known
        else package
        for package in packages
    }


def _glibc(
    measured: tuple[tuple[str, dict[str, Version]], ...], same_as: tuple[tuple[str, str], ...]
) -> dict[str, dict[str, Version]]:
    known = dict(measured)
    return {**known, **{name: known[other] for name, other in same_as if other in known}}
