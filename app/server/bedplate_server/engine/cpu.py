"""What this machine's CPU is."""

from __future__ import annotations

import re
from pathlib import Path

INFO = Path("/proc/cpuinfo")


def computes_bfloat16() -> bool:
    """Whether it has products of bfloat16, as vectors (AVX-512) or tiles (AMX)."""
    return not {"avx512_bf16", "amx_bf16"}.isdisjoint(_line("flags").split())


def is_intels() -> bool:
    """Whether MKL, with which PyTorch makes its plain products, has its best kernels for it."""
    return _line("vendor_id") == "GenuineIntel"


def _line(name: str) -> str:
    found = re.search(rf"^{name}\s*:\s*(.*)", INFO.read_text(), re.MULTILINE)
    return found[1] if found else ""
