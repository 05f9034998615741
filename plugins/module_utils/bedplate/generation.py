"""A generation: one state of the service that has answered, kept so that it can be brought back.

The texts of its configuration and units, where its links led, and the receipt's sections that tell of it. Two are kept: what
runs (`current`), and what ran before the software changed (`previous`). Runs on the target: standard library only, Python 3.9.
"""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.module_utils.bedplate.hostfacts import link_target, read_json, read_text

Generation = dict[str, Any]


def recorded(
    stamp: str, invocation: str, files: list[str], links: Mapping[str, str], sections: Mapping[str, Any]
) -> Generation:
    """The generation that is on the server now.

    invocation: systemd's id of the start that was proven. links: path of the link by what it selects (environment, release).
    """
    return {
        "stamp": stamp,
        "invocation": invocation,
        "files": [_recorded_file(path) for path in files],
        "links": {what: {"path": path, "target": link_target(path)} for what, path in links.items()},
        "software": software(links["environment"]),
        "receipt": dict(sections),
    }


def is_generation(found: object) -> bool:
    """Whether a file's content is one: a half-written file, or one of another release's form, is none."""
    return isinstance(found, dict) and {"stamp", "invocation", "files", "links", "software", "receipt"} <= set(found)


def software(environment: str) -> dict[str, Any]:
    """Versions that the environment's own stamp tells: torch, variant, python."""
    stamp = read_json(Path(environment) / ".bedplate-stamp.json")
    stamp = stamp if isinstance(stamp, dict) else {}
    return {
        "torch": stamp.get("torch"),
        "variant": stamp.get("variant"),
        "python": (stamp.get("proof") or {}).get("python"),
    }


def former(current: Generation | None, previous: Generation | None, new: Generation) -> Generation | None:
    """What ran before, once `new` runs. A changed configuration alone makes no generation: the inventory undoes that."""
    if current is None or current["links"] == new["links"]:
        return previous
    return current


def missing(generation: Generation) -> list[str]:
    """What the generation needs and the server no longer has: its release, or its environment as it was proven."""
    places = {what: Path(link["path"]).parent / (link["target"] or "?") for what, link in generation["links"].items()}
    marks = {"environment": ".bedplate-stamp.json", "release": "manifest.json"}
    return [str(place) for what, place in places.items() if not (place / marks.get(what, "")).exists()]


def summary(generation: Generation) -> dict[str, Any]:
    """Environment, release and versions, for the receipt and for sentences."""
    names = {what: os.path.basename(link["target"] or "") for what, link in generation["links"].items()}
    return {**names, **generation["software"]}


def differing(generation: Generation) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """Files and links of the generation that are otherwise on the server."""
    files = [one for one in generation["files"] if _recorded_file(one["path"]) != one]
    links = [link for link in generation["links"].values() if link_target(link["path"]) != link["target"]]
    return files, links


def _recorded_file(path: str) -> dict[str, Any]:
    text = read_text(path)
    if text is None:
        return {"path": path, "text": None}
    status = os.stat(path)
    return {
        "path": path,
        "text": text,
        "mode": status.st_mode & 0o7777,
        "owner": _name(pwd.getpwuid, status.st_uid),
        "group": _name(grp.getgrgid, status.st_gid),
    }


def _name(lookup: Any, number: int) -> str:
    try:
        return str(lookup(number)[0])
    except KeyError:
        return str(number)
