"""What conda wrote down about a prefix, read from its own records (`conda-meta/*.json`) without running conda."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.module_utils.bedplate.hostfacts import read_json


def records(prefix: Path) -> list[dict[str, Any]]:
    """One record per package that conda installed into the prefix."""
    found = (read_json(path) for path in sorted((prefix / "conda-meta").glob("*.json")))
    return [record for record in found if isinstance(record, dict) and "name" in record]


def installed_conda(prefix: Path) -> str | None:
    """Version of conda in the prefix, or None when there is no runnable conda."""
    if not (prefix / "bin/conda").is_file():
        return None
    versions = [str(record.get("version")) for record in records(prefix) if record["name"] == "conda"]
    return versions[0] if versions else None


def packages_of(prefix: Path) -> dict[str, Any]:
    """Python's version, the channels the packages came from, their number, and whether their files are hard links.

    Hard links show that the environment shares its files with conda's package cache and takes no second copy.
    """
    found = records(prefix)
    python = [str(record.get("version")) for record in found if record["name"] == "python"]
    library = prefix / "lib" / f"python{'.'.join(python[0].split('.')[:2])}" / "os.py" if python else None
    return {
        "python": python[0] if python else None,
        "channels": sorted({_channel(record) for record in found}),
        "packages": len(found),
        "hard_linked": library is not None and library.exists() and library.stat().st_nlink > 1,
    }


def _channel(record: dict[str, Any]) -> str:
    """The channel's address: that of the package without its folder and file name."""
    return str(record.get("url", "")).rsplit("/", 2)[0]
