"""What a model's source holds: a Hub's or ModelScope's repository, a list of checksums, an archive, a folder.

Reads listings and small files, never the weights (an archive is the exception: its files are known only when it was read). Runs
where the source is reached: standard library only, Python 3.9 or newer.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional
from urllib.parse import quote

from . import web
from .manifest import Entry, tree_manifest
from .model_reference import ARCHIVES, Reference
from .model_source import wanted_files
from .refusal import refusal

# (path, start, length) to bytes; length None is up to the end.
Read = Callable[[str, int, Optional[int]], bytes]  # noqa: UP045 - Python 3.9 evaluates it
FIXES = {
    "RepoNotFound": "check the name in the source; for a private model set model_hub_token.",
    "RevisionNotFound": "check the revision after @ in the source.",
    "GatedRepo": "accept the model's terms on its page and set model_hub_token (ansible-vault).",
}
REACH = "check that this machine reaches it (proxy, mirror, certificates), then run again."


class SourceError(Exception):
    """A source does not give its listing; the message is the whole refusal."""


@dataclass
class Listing:
    """A source's files, in order of their path: `{path, size, sha256, git}`, the last two None where the source does not tell."""

    files: list[Entry]
    read: Read
    commit: str = ""
    licence: str | None = None
    # Of an archive: its size, its sha256 and the folder in it that holds the model.
    archive: dict[str, Any] = field(default_factory=dict)


def listing_of(
    reference: Reference, endpoints: Mapping[str, str], token: str = "", *, tries: int = web.TRIES
) -> Listing:
    """The listing of a source. endpoints: address of `hub` and of `modelscope`. Raises SourceError BP510."""
    try:
        if reference.kind == "hub":
            return _hub(reference, endpoints["hub"], token, tries)
        if reference.kind == "modelscope":
            return _modelscope(reference, endpoints["modelscope"], tries)
        if reference.kind == "list":
            return _checksums(reference, tries)
        if reference.kind == "archive":
            return _archive(reference)
        return _folder(Path(reference.path))
    except web.WebError as error:
        place = endpoints.get(reference.kind, "its address")
        found, fix = str(error), FIXES.get(error.code, REACH)
        raise SourceError(
            refusal("BP510", f"{place} does not give {reference.source}", found, "its files", fix)
        ) from None


def _hub(reference: Reference, endpoint: str, token: str, tries: int) -> Listing:
    url = f"{endpoint}/api/models/{reference.repo}/revision/{quote(reference.revision, safe='')}?blobs=true"
    info = _json(web.read(url, token, tries=tries), reference)
    listed = [
        {
            "path": one["rfilename"],
            "size": one.get("size"),
            "sha256": (one.get("lfs") or {}).get("sha256"),
            "git": one.get("blobId"),
        }
        for one in info["siblings"]
    ]
    commit = str(info["sha"])

    def read(path: str, start: int, length: int | None) -> bytes:
        return web.read(
            file_url(reference, endpoint, commit).format(path=quote(path)), token, start, length, tries=tries
        )

    return Listing(_wanted(listed), read, commit, (info.get("cardData") or {}).get("license"))


def _modelscope(reference: Reference, endpoint: str, tries: int) -> Listing:
    """ModelScope tells a sha256 for every file. A revision it does not know gives no files, and no error."""
    query = f"Revision={quote(reference.revision, safe='')}&Recursive=True"
    answer = _json(web.read(f"{endpoint}/api/v1/models/{reference.repo}/repo/files?{query}", tries=tries), reference)
    data = answer.get("Data") or {}
    blobs = [one for one in data.get("Files") or [] if one.get("Type") != "tree"]
    if not blobs:
        found = "no files of that revision" if answer.get("Success") else str(answer.get("Message"))
        fix = "check name and revision in the source."
        raise SourceError(refusal("BP510", f"{endpoint} does not give {reference.source}", found, "its files", fix))
    latest = data.get("LatestCommitter") or {}
    revisions = {str(one.get("Revision", "")) for one in blobs}
    short = str(latest.get("ShortId") or "-")
    named = [
        str(latest.get("Id") or ""),
        reference.revision,
        *sorted(one for one in revisions if one.startswith(short)),
    ]
    commit = next((one for one in named if re.fullmatch(r"[0-9a-f]{40}", one)), "")

    def read(path: str, start: int, length: int | None) -> bytes:
        return web.read(file_url(reference, endpoint, commit).format(path=quote(path)), "", start, length, tries=tries)

    listed = [
        {"path": one["Path"], "size": one["Size"], "sha256": one.get("Sha256") or None, "git": None} for one in blobs
    ]
    return Listing(_wanted(listed), read, commit)


def _checksums(reference: Reference, tries: int) -> Listing:
    """A file as sha256sum writes it; the files lie beside it."""
    files: list[Entry] = []
    base = file_url(reference, "", "")
    for line in web.read(reference.source, tries=tries).decode("utf-8", "replace").splitlines():
        found = re.fullmatch(r"([0-9a-fA-F]{64}) [ *](.+)", line.strip())
        if not found:
            continue
        path = found[2][2:] if found[2].startswith("./") else found[2]
        size = web.place_of(base.format(path=quote(path)), tries=tries).size
        files.append({"path": path, "size": size, "sha256": found[1].lower(), "git": None})

    def read(path: str, start: int, length: int | None) -> bytes:
        return web.read(base.format(path=quote(path)), "", start, length, tries=tries)

    return Listing(_wanted(files), read)


def _archive(reference: Reference) -> Listing:
    """Reads the archive once, from end to end, and keeps nothing but its small JSON files."""
    small: dict[str, bytes] = {}
    files: list[Entry] = []
    with web.opened(reference.source) as (answer, address):
        whole = _Counted(answer)
        try:
            with tarfile.open(fileobj=io.BufferedReader(whole, 1 << 20), mode="r|*") as archive:
                for member in archive:
                    stream = archive.extractfile(member) if member.isfile() else None
                    if stream is None:
                        continue
                    digest, kept = hashlib.sha256(), bytearray()
                    for block in iter(lambda: stream.read(1 << 20), b""):  # noqa: B023 - used up before the next member
                        digest.update(block)
                        if member.name.endswith(".json") and member.size < 1 << 26:
                            kept += block
                    small[member.name] = bytes(kept)
                    files.append({"path": member.name, "size": member.size, "sha256": digest.hexdigest(), "git": None})
            while whole.read(1 << 20):
                pass
        except (tarfile.TarError, EOFError, OSError) as error:
            raise web.WebError(address, 0, f"no whole {'/'.join(ARCHIVES)} archive ({error})") from None
    configs = [entry["path"] for entry in files if entry["path"].rpartition("/")[2] == "config.json"]
    top = min(configs, key=lambda path: path.count("/"), default="config.json")[: -len("config.json")]
    inside = [{**entry, "path": entry["path"][len(top) :]} for entry in files if entry["path"].startswith(top)]

    def read(path: str, start: int, length: int | None) -> bytes:
        data = small.get(top + path, b"")
        return data[start:] if length is None else data[start : start + length]

    about = {"size": whole.count, "sha256": whole.digest.hexdigest(), "folder": top}
    return Listing(_wanted(inside), read, archive=about)


class _Counted(io.RawIOBase):
    """A stream with the sha256 of what went through it."""

    def __init__(self, stream: Any) -> None:
        self.stream, self.digest, self.count = stream, hashlib.sha256(), 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self.stream.read(len(buffer))
        self.digest.update(data)
        self.count += len(data)
        buffer[: len(data)] = data
        return len(data)


def _folder(folder: Path) -> Listing:
    if not folder.is_dir():
        fix = "mount it, or correct the path in the source."
        raise SourceError(refusal("BP510", f"no folder {folder}", "nothing there", "the model's files", fix))

    def read(path: str, start: int, length: int | None) -> bytes:
        with (folder / path).open("rb") as stream:
            stream.seek(start)
            return stream.read() if length is None else stream.read(length)

    files = [{**entry, "git": None} for entry in tree_manifest(folder)["files"]]
    return Listing(_wanted(files), read)


def file_url(reference: Reference, endpoint: str, commit: str) -> str:
    """The address of a source's files, `{path}` standing for the quoted path."""
    if reference.kind == "hub":
        return f"{endpoint}/{reference.repo}/resolve/{commit or reference.revision}/{{path}}"
    if reference.kind == "modelscope":
        revision = quote(commit or reference.revision, safe="")
        return f"{endpoint}/api/v1/models/{reference.repo}/repo?Revision={revision}&FilePath={{path}}"
    if reference.kind == "list":
        return reference.source.rpartition("/")[0].replace("{", "%7B").replace("}", "%7D") + "/{path}"
    return ""


def _json(data: bytes, reference: Reference) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        fix = "name the address of a Hub (hf_endpoint, modelscope_endpoint)."
        raise SourceError(refusal("BP510", f"no listing of {reference.source}", repr(data[:60]), "JSON", fix))
    return found


def _wanted(files: list[Entry]) -> list[Entry]:
    """Those the service reads."""
    wanted = set(wanted_files(entry["path"] for entry in files))
    return _checked([entry for entry in files if entry["path"] in wanted])


def _checked(files: list[Entry]) -> list[Entry]:
    """In order of path. A path that leads out of the model's folder, or a file without a size, makes the whole listing useless."""
    for entry in files:
        parts = str(entry["path"]).split("/")
        if (
            not isinstance(entry["size"], int)
            or "" in parts
            or ".." in parts
            or "\\" in entry["path"]
            or "\n" in entry["path"]
        ):
            found = f"{entry['path']!r} with {entry['size']} bytes"
            fix = "take another source: this one lists what cannot be a model's file."
            raise SourceError(refusal("BP510", "a listing that cannot be used", found, "plain paths with sizes", fix))
    return sorted(files, key=lambda entry: str(entry["path"]))
