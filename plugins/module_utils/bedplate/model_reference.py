"""What the source of a model says: which kind it is, and what is asked of it. Standard library only, Python 3.9 or newer."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

_REPOSITORY = re.compile(r"(?P<scheme>hf|modelscope)://(?P<repo>[\w.-]+/[\w.-]+)@(?P<revision>[\w./-]+)")
_CHECKSUMS = re.compile(r"SHA256SUMS?(\.txt)?|.+\.sha256(sums?)?")
ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2")
FORMS = (
    "hf://org/name@revision, modelscope://org/name@revision, https://host/path/SHA256SUMS, https://host/path/name.tar.gz, "
    "file:///folder/on/the/server or a folder on the controller"
)


@dataclass(frozen=True)
class Reference:
    """A source that was understood.

    kind: `hub`, `modelscope`, `list` (a file of checksums), `archive`, `server` (a folder on the server, NFS for one) or `directory` (on
    the controller). `repo` is org/name, made up from the address where the source has none. `path` is that of the two folders.
    """

    source: str
    kind: str
    repo: str
    revision: str = ""
    path: str = ""

    @property
    def locked(self) -> bool:
        """Whether models.lock has to say what it is: a folder on the controller says so itself."""
        return self.kind != "directory"


def reference_of(source: str) -> Reference | None:
    """The source as it is meant, or None when it is of no known kind."""
    found = _REPOSITORY.fullmatch(source)
    if found:
        kind = {"hf": "hub", "modelscope": "modelscope"}[found["scheme"]]
        return Reference(source, kind, found["repo"], found["revision"])
    if source.startswith("/"):
        return Reference(source, "directory", "", path=source)
    try:
        parts = urlsplit(source)
    except ValueError:
        return None
    name = PurePosixPath(unquote(parts.path)).name
    if parts.scheme == "file" and not parts.netloc and name:
        return Reference(source, "server", f"server/{_plain(name)}", path=unquote(parts.path))
    if parts.scheme in ("http", "https") and parts.netloc:
        ending = next((ending for ending in ARCHIVES if name.endswith(ending)), "")
        if ending:
            return Reference(source, "archive", f"web/{_plain(name[: -len(ending)])}")
        if _CHECKSUMS.fullmatch(name):
            return Reference(source, "list", f"web/{_plain(PurePosixPath(unquote(parts.path)).parent.name)}")
    return None


def _plain(name: str) -> str:
    """A name as it may stand in a folder's."""
    return re.sub(r"[^\w.-]+", "-", name).strip(".-") or "model"
