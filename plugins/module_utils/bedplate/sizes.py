"""Bytes and rates in words. Standard library only, Python 3.9 or newer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def size_words(count: float) -> str:
    """1.5 GB, 12 MB, 900 B; powers of ten, as disks and networks count."""
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= factor:
            return f"{count / factor:.{1 if count < 100 * factor else 0}f} {unit}"
    return f"{int(count)} B"


def transfer_words(name: str, progress: Mapping[str, Any]) -> str:
    """model qwen: 3.1 GB of 16.4 GB (19 %), 212 MB/s, 1:02 left."""
    done, total, rate = int(progress["done"]), int(progress["total"]), int(progress["rate"])
    said = f"model {name}: {size_words(done)} of {size_words(total)} ({100 * done // max(total, 1)} %)"
    if rate and done < total:
        left = (total - done) // rate
        said += f", {size_words(rate)}/s, {left // 60}:{left % 60:02d} left"
    return said
