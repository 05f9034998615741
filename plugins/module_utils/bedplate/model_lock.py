"""models.lock: for every source of a model the commit, and size and sha256 of each file. Servers get what stands there.

It lies in the inventory's folder, is written by the first run that needs an entry or by `./bedplate model lock`, and belongs under
version control. YAML, so that a change can be read. Runs on both sides; only `read_lock` and `lock_text` need PyYAML.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .manifest import Entry, tree_revision
from .model_code import brought_code
from .model_facts import facts_of
from .model_listing import Listing, SourceError, listing_of
from .model_reference import Reference
from .model_source import directory_name, is_adapter, model_problems
from .refusal import refusal
from .web import WebError

Lock = dict[str, Any]
# A Hub keeps files without a sha256 of their own in git; it takes none that is larger.
SMALL = 64 << 20
HEAD = (
    "# Which files the models of this inventory are made of. Written by Bedplate (./bedplate model lock SOURCE locks anew);\n"
    "# keep it under version control: servers get what is written here and nothing else.\n"
)


class LockError(Exception):
    """models.lock cannot be used; the message is the whole refusal."""


def locked(reference: Reference, name: str, endpoints: Mapping[str, str], token: str, *, tries: int = 6) -> Lock:
    """The entry of a source: asks it, reads its small files, refuses what must not be served.

    Raises SourceError with one refusal or several, one a line.
    """
    listing = listing_of(reference, endpoints, token, tries=tries)
    files, texts = _settled(reference, listing)
    problems = model_problems(name, reference.source, files, texts)
    if problems:
        raise SourceError("\n".join(problems))
    facts = _facts(reference, listing, files, texts)
    revision = tree_revision(files)
    entry: Lock = {
        "repo": reference.repo,
        "commit": listing.commit or None,
        "licence": listing.licence,
        "directory": directory_name(reference.repo, listing.commit or revision),
        "revision": revision,
        "bytes": sum(one["size"] for one in files),
        "facts": facts,
        "files": files,
    }
    code = {} if is_adapter(texts) else brought_code(texts)
    more = {"remote_code": code, "archive": listing.archive}
    return {**entry, **{key: value for key, value in more.items() if value}}


def _settled(reference: Reference, listing: Listing) -> tuple[list[Entry], dict[str, str]]:
    """The files with a sha256 each, and the texts of the small JSON files."""
    files, texts = [], {}
    for entry in listing.files:
        wanted = not entry["sha256"] or (entry["path"].endswith(".json") and entry["size"] < 1 << 22)
        data = _small_file(reference, listing, entry) if wanted else b""
        digest = entry["sha256"] or hashlib.sha256(data).hexdigest()
        files.append({"path": entry["path"], "size": entry["size"], "sha256": digest})
        if entry["path"].endswith(".json"):
            texts[entry["path"]] = data.decode("utf-8", "replace")
    return files, texts


def _facts(reference: Reference, listing: Listing, files: list[Entry], texts: Mapping[str, str]) -> dict[str, Any]:
    """What decides whether the model can be served; of an archive, whose weights were not kept, nothing."""

    def read(path: str, start: int, length: int) -> bytes:
        known = texts.get(path)
        return listing.read(path, start, length) if known is None else known.encode()[start : start + length]

    if listing.archive or is_adapter(texts):
        return {}
    try:
        return facts_of(files, read)
    except (ValueError, WebError, OSError) as error:
        found, fix = str(error), "take another revision, or finish the upload of the source."
        raise SourceError(refusal("BP505", f"{reference.source} cannot be read", found, "safetensors", fix)) from None


def _small_file(reference: Reference, listing: Listing, entry: Entry) -> bytes:
    if entry["size"] > SMALL:
        found = f"{entry['path']} with {entry['size']} bytes and no sha256"
        raise SourceError(
            refusal(
                "BP510", f"{reference.source} does not say what it holds", found, "a sha256", "take another source."
            )
        )
    try:
        data = listing.read(entry["path"], 0, None)
    except WebError as error:
        raise SourceError(
            refusal("BP510", f"no {entry['path']} of {reference.source}", str(error), "the file", "run again.")
        ) from None
    git = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    right = entry["sha256"] == hashlib.sha256(data).hexdigest() if entry["sha256"] else entry["git"] in (None, git)
    if len(data) != entry["size"] or not right:
        found = f"{len(data)} other bytes as {entry['path']}"
        fix = "run again; if it stays, the mirror is damaged."
        raise SourceError(refusal("BP511", f"{reference.source}: wrong bytes", found, "what it lists itself", fix))
    return data


def read_lock(path: str | Path) -> dict[str, Lock]:
    """Entries by source; none where there is no file. Raises LockError BP515."""
    import yaml

    place = Path(path)
    if not place.exists():
        return {}
    try:
        found = yaml.safe_load(place.read_text(encoding="utf-8"))
        models = (found or {}).get("models") or {}
        wrong = [str(source) for source, entry in models.items() if not is_entry(entry)]
    except (OSError, ValueError, AttributeError, yaml.YAMLError) as error:
        wrong, models = [" ".join(str(error).split())[:200]], {}
    if wrong:
        fix = "take the file back from version control, or remove the entry and run ./bedplate model lock SOURCE."
        raise LockError(
            refusal("BP515", f"{place} cannot be used", ", ".join(wrong[:3]), "entries as Bedplate writes them", fix)
        )
    return {str(source): dict(entry) for source, entry in models.items()}


def is_entry(entry: object) -> bool:
    """Whether an entry is whole: its files amount to its revision, and none leads out of the model's folder."""
    if not isinstance(entry, dict) or not isinstance(entry.get("files"), list):
        return False
    try:
        plain = all(
            re.fullmatch(r"[0-9a-f]{64}", one["sha256"])
            and int(one["size"]) >= 0
            and not one["path"].startswith("/")
            and ".." not in one["path"].split("/")
            for one in entry["files"]
        )
        return (
            plain and bool(entry["repo"] and entry["directory"]) and tree_revision(entry["files"]) == entry["revision"]
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        return False


def lock_text(models: Mapping[str, Lock]) -> str:
    """models.lock as it is written: in order of source, one line a file."""
    import yaml

    lines = ["models:"] if models else ["models: {}"]
    for source in sorted(models):
        # Ansible's own kinds of text and dictionaries become plain ones.
        entry = json.loads(json.dumps(models[source]))
        files = entry.pop("files")
        lines.append(f"  {_scalar(source)}:")
        lines += [
            "    " + line
            for line in yaml.safe_dump(entry, sort_keys=False, allow_unicode=True, width=1000).splitlines()
        ]
        lines.append("    files:")
        lines += [
            f'      - {{path: {_scalar(one["path"])}, size: {one["size"]}, sha256: "{one["sha256"]}"}}' for one in files
        ]
    return HEAD + "\n".join(lines) + "\n"


def _scalar(text: str) -> str:
    """A text as one YAML word, in quotes where it needs them."""
    return (
        text
        if re.fullmatch(r"[A-Za-z_./][\w./@-]*", text) and ": " not in text
        else '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    )
