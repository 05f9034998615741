"""Files that others read while they change."""

from __future__ import annotations

import os
import shutil
from pathlib import Path


def replace_file(
    path: str | Path, content: str | bytes, mode: int = 0o644, owner: str | None = None, group: str | None = None
) -> None:
    """Give a file this content in one step; its folder is made if need be. Raises OSError."""
    path = Path(path)
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    # apt and modprobe read every file in their folders but those with a dot in front.
    beside = path.parent / f".{path.name}.new"
    beside.unlink(missing_ok=True)
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
        stream.write(content.encode() if isinstance(content, str) else content)
    os.chmod(beside, mode)
    if owner:
        shutil.chown(beside, owner, group)
    os.replace(beside, path)
