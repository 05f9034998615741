"""How far a unit's sandbox is open, as systemd measures it."""

from __future__ import annotations

import re
from typing import Any


def exposure(host: Any, unit: str) -> float:
    """From 0 (closed) to 10 (open)."""
    said = host.run(f"systemd-analyze security --no-pager {unit}").stdout
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", said)
    assert found, said[-300:]
    return float(found[1])
