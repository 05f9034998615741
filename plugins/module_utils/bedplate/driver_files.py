"""Small files of the driver: written whole, and said in words."""

from __future__ import annotations

from pathlib import Path

from ansible.module_utils.bedplate.files import replace_file
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
        replace_file(path, text)
    did.append(f"{'wrote' if text is not None else 'removed'} {path}")
    return True
