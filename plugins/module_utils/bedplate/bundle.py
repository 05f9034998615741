"""What an air-gap bundle holds, whether it is whole, and whether a host can be installed from it alone.

Runs on the controller. A bundle is a folder: `bundle.json` names every other file with size, sha256, licence and source;
`platforms/<platform>/` holds what servers of one distribution and architecture take (`apt`, `conda`, `wheels`, `installers`),
`models/<directory>/` and `page/<hash>/` what all may share.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, MutableMapping
from pathlib import Path
from typing import Any

from .manifest import Manifest, sha256_of, tree_revision
from .refusal import refusal

FORMAT = 1
INDEX = "bundle.json"

Bundle = Mapping[str, Any]


class BundleError(Exception):
    """A refusal, whole."""


def read(folder: str | Path) -> dict[str, Any]:
    """The bundle's index. Raises BundleError BP180 where there is none this release can read."""
    place = Path(folder) / INDEX
    wanted = f"a bundle of format {FORMAT}, made by ./bedplate bundle"
    try:
        found: dict[str, Any] = json.loads(place.read_text(encoding="utf-8"))
        if found["format"] == FORMAT:
            return found
        cause = f"format {found['format']} in {place}"
    except (OSError, ValueError, KeyError, TypeError) as error:
        cause = f"{place}: {getattr(error, 'strerror', None) or error}"
    fix = "correct the path after -e bundle= (or --bundle), or make the bundle again with this checkout."
    raise BundleError(refusal("BP180", "no bundle", cause, wanted, fix))


def damaged(folder: str | Path, bundle: Bundle, known: MutableMapping[str, str] | None = None) -> list[str]:
    """What differs from the index, a phrase per file. `known` remembers hashes by path, size and modification time."""
    return [
        phrase
        for entry in bundle["files"]
        if (phrase := _damage(Path(folder) / entry["path"], entry, known)) is not None
    ]


def _damage(place: Path, entry: Mapping[str, Any], known: MutableMapping[str, str] | None) -> str | None:
    if not place.is_file():
        return f"no {entry['path']}"
    status = place.stat()
    if status.st_size != entry["size"]:
        return f"{entry['path']} with {status.st_size} of {entry['size']} bytes"
    key = f"{place.resolve()}:{status.st_size}:{status.st_mtime_ns}"
    digest = (known or {}).get(key) or sha256_of(place)
    if known is not None:
        known[key] = digest
    return None if digest == entry["sha256"] else f"{entry['path']} with sha256 {digest[:12]}"


def damage_problem(folder: str | Path, phrases: list[str]) -> str:
    """The refusal of a damaged bundle."""
    found = f"{len(phrases)} file(s): {'; '.join(phrases[:3])}"
    fix = "copy these files again from where the bundle was made (rsync -c does only them)."
    return str(refusal("BP181", f"bundle {folder} is damaged", found, "the sizes and sha256 of bundle.json", fix))


def platform_of(facts: Mapping[str, Any]) -> str:
    """debian-12-x86_64, from Ansible's facts: one distribution release and architecture."""
    return f"{facts['distribution'].lower()}-{facts['distribution_major_version']}-{facts['architecture']}"


def lacking(bundle: Bundle, wishes: Mapping[str, Any]) -> list[str]:
    """What a host is to get and the bundle does not have, a phrase each.

    wishes: platform; installer (sha256, "" for none); environments (folder names, hashes included); models (sources as in
    model_list); page (hash, "" for none). What is not yet decided is left out by the caller.
    """
    part = bundle["platforms"].get(wishes["platform"])
    if part is None:
        return [f"anything for {wishes['platform']} (it has {', '.join(sorted(bundle['platforms'])) or 'no platform'})"]
    missing = []
    if wishes.get("installer") and wishes["installer"] not in part["installers"]:
        missing.append(f"the conda installer {wishes['installer'][:12]}")
    missing += [
        f"the environment {name}" for name in wishes.get("environments", []) if name not in part["environments"]
    ]
    missing += [f"the model {source}" for source in wishes.get("models", []) if not models_for(bundle, [source])]
    if wishes.get("page") and wishes["page"] != bundle["page"]:
        missing.append(f"the chat page {wishes['page']} (it has {bundle['page'] or 'none'})")
    return missing


def lack_problem(folder: str | Path, bundle: Bundle, missing: list[str]) -> str:
    """The refusal of a bundle that lacks something."""
    found = (
        f"one made {bundle['made']} for {', '.join(sorted(bundle['hosts'])) or 'no host'} without {'; '.join(missing)}"
    )
    fix = (
        "make it again where the internet is, with this checkout and this inventory (./bedplate bundle --inventory ... "
        "--output ...), or run the checkout and the inventory it was made with."
    )
    return str(refusal("BP182", f"bundle {folder} lacks what this host is to get", found, "all of it", fix))


def models_for(bundle: Bundle, sources: Iterable[str]) -> dict[str, Manifest]:
    """Manifest by folder of the models that an inventory asks for by these sources (hf://org/name@revision)."""
    wanted = {name for source in sources for name in (source, source.partition("://")[2])}
    return {folder: model for folder, model in bundle["models"].items() if model.get("requested") in wanted}


def tree_of(bundle: Bundle, platform: str) -> Manifest:
    """The platform's files as a tree to publish on a server: `{revision, bytes, files: [{path, size, sha256}]}`."""
    top = f"platforms/{platform}/"
    files = [
        {"path": entry["path"].removeprefix(top), "size": entry["size"], "sha256": entry["sha256"]}
        for entry in bundle["files"]
        if entry["path"].startswith(top)
    ]
    return {"revision": tree_revision(files), "bytes": sum(entry["size"] for entry in files), "files": files}


# What a bundle is made of


def packages_index(debs: Iterable[Mapping[str, Any]]) -> str:
    """apt's Packages file of a flat repository. debs: path, size, sha256, and control, the package's own paragraph."""
    paragraphs = []
    for deb in sorted(debs, key=lambda deb: str(deb["path"])):
        name = str(deb["path"]).rpartition("/")[2]
        fields = f"Filename: ./{name}\nSize: {deb['size']}\nSHA256: {deb['sha256']}\n"
        paragraphs.append(str(deb["control"]).rstrip("\n") + "\n" + fields)
    return "\n".join(paragraphs)


def channel_index(records: Iterable[Mapping[str, Any]], subdir: str) -> dict[str, Any]:
    """conda's repodata.json of one folder of a channel. records: a package's record as conda keeps it, with fn and subdir."""
    chosen = [dict(record) for record in records if record["subdir"] == subdir]
    tables: dict[str, dict[str, Any]] = {"packages": {}, "packages.conda": {}}
    for record in sorted(chosen, key=lambda record: str(record["fn"])):
        table = "packages.conda" if record["fn"].endswith(".conda") else "packages"
        tables[table][record["fn"]] = {key: value for key, value in record.items() if key != "fn"}
    return {"info": {"subdir": subdir}, **tables, "removed": [], "repodata_version": 1}


def closure(name: str, debs: Iterable[Mapping[str, Any]]) -> list[str]:
    """Paths of a package and of those it depends on, as far as they are among debs (each with name, path, depends)."""
    by_name = {str(deb["name"]): deb for deb in debs}
    found: dict[str, str] = {}
    waiting = [name]
    while waiting:
        deb = by_name.get(waiting.pop())
        if deb and deb["name"] not in found:
            found[deb["name"]] = deb["path"]
            waiting += deb["depends"]
    return sorted(found.values())
