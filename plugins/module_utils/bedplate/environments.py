"""The Python environments of a server: what an inventory describes, and the folder each description leads to.

Runs on the controller. Pure functions over the description and the text of its locks.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ansible.module_utils.bedplate.refusal import refusal

# As an inventory describes it, or as `resolve` returns it.
Environment = Mapping[str, Any]
# The environments on a server by prefix, as the base probe reads them.
Found = Mapping[str, Mapping[str, Any]]

_NAME = re.compile(r"[a-z][a-z0-9_-]*")
_PYTHON = re.compile(r"3\.\d+(\.\d+)?")
_PINNED = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^\]]*\])?==([^\s;\\]+)", re.MULTILINE)
_EXPLICIT_URL = re.compile(r"^\S+://\S+$", re.MULTILINE)
_KEYS = {"name", "enabled", "python", "packages", "explicit", "locks", "proof"}


def pinned_versions(lock: str) -> dict[str, str]:
    """Version by normalised package name, from a requirements file."""
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in _PINNED.findall(lock)}


def resolve(environment: Environment, texts: Mapping[str, str], tool_lock: str, root: str) -> dict[str, Any]:
    """An environment with every key filled in, its hash and its paths.

    texts: content of each file the environment names. tool_lock: content of uv's lock. root: bedplate_root.
    The hash covers all that decides what is installed, so the same folder name means the same content.
    """
    name = environment["name"]
    locks = list(environment.get("locks", []))
    explicit = environment.get("explicit", "")
    decisive = {
        "python": "" if explicit else str(environment["python"]),
        "packages": sorted(environment.get("packages", [])),
        "explicit": texts[explicit] if explicit else "",
        "locks": [texts[path] for path in locks],
        "tool": tool_lock,
    }
    digest = hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:12]
    return {
        "name": name,
        "python": decisive["python"],
        "packages": decisive["packages"],
        "explicit": explicit,
        "locks": locks,
        "proof": list(environment.get("proof", [])),
        "hash": digest,
        "prefix": f"{root}/envs/{name}-{digest}",
        "link": f"{root}/envs/{name}",
    }


def environment_problems(environments: Sequence[Environment], texts: Mapping[str, str | None]) -> list[str]:
    """Refusals for the described environments, empty when they can be made. texts: None for a file that is missing."""
    problems = [problem for environment in environments for problem in _problems(environment, texts)]
    names = [environment.get("name") for environment in environments]
    for name in sorted({name for name in names if isinstance(name, str) and names.count(name) > 1}):
        problems.append(_wrong(name, "two environments of that name", "one", "rename one of them"))
    return problems


def unfinished(environments: Sequence[Environment], found: Found) -> list[Environment]:
    """Environments without a stamp: their wheels are to be installed and proven."""
    return [environment for environment in environments if not found.get(environment["prefix"], {}).get("stamp")]


def unmade(environments: Sequence[Environment], found: Found) -> list[Environment]:
    """Unfinished environments that are not what conda made either: to be made, or made anew after an interruption."""
    return [
        environment
        for environment in unfinished(environments, found)
        if found.get(environment["prefix"], {}).get("pristine") is None
    ]


def unlinked(environments: Sequence[Environment], links: Mapping[str, str]) -> list[Environment]:
    """Environments whose link does not lead to them yet. links: prefix by name of the link."""
    return [environment for environment in environments if links.get(environment["name"]) != environment["prefix"]]


def stays(name: str, links: Mapping[str, str], found: Found) -> str:
    """What goes on being used when the next environment of a name fails, in words."""
    prefix = links.get(name)
    stamp = found.get(prefix or "", {}).get("stamp")
    if prefix is None or not stamp:
        return f"no environment {name} is in use yet"
    proven = stamp.get("proof", {}).get("torch", {}).get("version")
    decided = f"{stamp['torch']}+{stamp['variant']}" if "torch" in stamp else proven
    return f"{name} stays at {prefix}" + (f" (torch {decided})" if proven else "")


def conda_cause(printed: str) -> str:
    """What conda says went wrong, in one line: from the first "SomethingError: ..." on; without one, the last lines."""
    named = re.search(r"^(?:\w+Error|\w+Channel|\w+Exception)\b.*", printed, re.MULTILINE | re.DOTALL)
    lines = [line.strip() for line in (named[0] if named else printed).splitlines() if line.strip()]
    return " ".join(lines[:6] if named else lines[-6:])


def superseded(environments: Sequence[Environment], found: Found, keep: int, running: Sequence[str] = ()) -> list[str]:
    """Prefixes to remove: per name all but the wanted one and the latest finished others, `keep` in all.

    What programs run from (`running`) always stays, before all others: the service may have to go on with it.
    What has no time of its stamp (`stamped_at`) is the rest of an interrupted run and always goes.
    """
    removed = []
    for environment in environments:
        family = re.compile(re.escape(environment["link"]) + "-[0-9a-f]{12}")
        others = [prefix for prefix in found if family.fullmatch(prefix) and prefix != environment["prefix"]]
        others.sort(key=lambda prefix: (prefix in running, found[prefix]["stamped_at"] or 0), reverse=True)
        finished = [prefix for prefix in others if found[prefix]["stamped_at"] is not None]
        removed += [prefix for prefix in others if prefix not in finished[: keep - 1] and prefix not in running]
    return sorted(removed)


def _wrong(name: object, found: str, wanted: str, fix: str) -> str:
    text: str = refusal("BP204", f"environment {name}", found, wanted, f"{fix} in conda_environments.")
    return text


def _problems(environment: Environment, texts: Mapping[str, str | None]) -> Iterator[str]:
    name = environment.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        yield _wrong(name, f"the name {name!r}", "lower-case letters, digits, - and _", "correct the name")
    unknown = set(environment) - _KEYS
    if unknown:
        yield _wrong(
            name, f"the key {', '.join(sorted(unknown))}", f"one of {', '.join(sorted(_KEYS))}", "correct the key"
        )
    # Unquoted, YAML reads 3.10 as the number 3.1.
    python = environment.get("python")
    if not environment.get("explicit") and not (isinstance(python, str) and _PYTHON.fullmatch(python)):
        yield _wrong(name, f"python {python!r}", "a version such as '3.11', in quotes", "correct python")
    for path in [*environment.get("locks", []), *([environment["explicit"]] if environment.get("explicit") else [])]:
        if texts[path] is None:
            yield _wrong(name, f"no file {path}", "a lock on the controller", "write that lock or correct the path")
    if environment.get("explicit") and texts[environment["explicit"]]:
        yield from _explicit_problems(name, environment["explicit"], texts[environment["explicit"]] or "")
    yield from _lock_problems(name, {path: texts[path] or "" for path in environment.get("locks", [])})


def _explicit_problems(name: object, path: str, text: str) -> Iterator[str]:
    if "@EXPLICIT" not in text.splitlines():
        yield _wrong(
            name, f"no @EXPLICIT line in {path}", "an explicit lock", "write it with 'conda list --explicit --md5'"
        )
    bare = [line for line in _EXPLICIT_URL.findall(text) if not re.search(r"#(sha256:)?[0-9a-f]{32,64}$", line)]
    if bare:
        yield _wrong(
            name, f"no hash after {bare[0]} in {path}", "one per package", "write it with 'conda list --explicit --md5'"
        )


def _lock_problems(name: object, locks: Mapping[str, str]) -> Iterator[str]:
    """Every requirement needs a hash, and two locks of one environment must agree."""
    seen: dict[str, tuple[str, str]] = {}
    for path, text in locks.items():
        for entry in re.split(r"(?<!\\)\n", text):
            pinned = _PINNED.match(entry)
            if pinned and "--hash=" not in entry:
                fix = "lock it with 'uv pip compile --generate-hashes' and name that file"
                yield _wrong(name, f"no hash for {pinned[1]} in {path}", "one per package", fix)
        for package, version in pinned_versions(text).items():
            other, where = seen.setdefault(package, (version, path))
            if other != version:
                found = f"{package} {other} in {where} and {version} in {path}"
                yield _wrong(name, found, "one version", "lock one file with the other as a constraint (-c)")
