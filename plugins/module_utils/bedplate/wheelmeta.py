"""What a wheel says of itself."""

from __future__ import annotations

import re
import zipfile
from email.parser import HeaderParser
from pathlib import Path

_CLASSIFIER = "License :: "


def wheel_metadata(file: Path) -> tuple[str, str, str]:
    """Name, version and licence as the wheel itself says."""
    with zipfile.ZipFile(file) as archive:
        path = next(name for name in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", name))
        fields = HeaderParser().parsestr(archive.read(path).decode("utf-8", "replace"))
    classified = [
        text.rpartition(" :: ")[2] for text in fields.get_all("Classifier") or [] if text.startswith(_CLASSIFIER)
    ]
    short = (fields.get("License") or "").strip()
    if len(short) > 60 or "\n" in short:
        # Some put the licence's whole text there.
        short = ""
    return fields["Name"], fields["Version"], fields.get("License-Expression") or short or " AND ".join(classified)
