"""Small files of the driver: written whole, and said in words."""

from __future__ import annotations

import os
from pathlib import Path

from ansible.module_utils.bedplate.hostfacts import read_text


def write_file(path: str, text: str | None, did: list[str], check: bool = False) -> bool:
    """Make a file's content `text` (None: no such file), atomically; says so in `did`. Returns whether it differed."""
    if read_text(path) == text:
        return False
    verb = "write" if text is not None else "remove"
    if check:
        did.append(f"would {verb} {path}")
        return True
    if text is None:
        Path(path).unlink()
    else:
        Path(path).parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        # apt and modprobe read every file in their folders but those with a dot in front.
        staged = Path(path).parent / f".{Path(path).name}.new"
        staged.write_text(text, encoding="utf-8")
        os.chmod(staged, 0o644)
        os.replace(staged, path)
    did.append(f"{'wrote' if text is not None else 'removed'} {path}")
    return True
