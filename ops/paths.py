"""Where things are in this checkout."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV_BIN = ROOT / ".venv" / "bin"
WORK = ROOT / ".bedplate"
LOGS = WORK / "logs"
REPORTS = WORK / "reports"
SANDBOX_INVENTORY = ROOT / "inventory" / "sandbox"
LOCKS = ROOT / "roles" / "pytorch" / "files" / "locks"
TUTOR = ROOT / "app" / "models" / "tutor"


def short(path: Path) -> Path:
    """The path as a person in this checkout would type it."""
    return path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
