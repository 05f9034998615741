"""./bedplate itself, before any verb."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from ops.paths import ROOT


def test_bytecode_is_kept_whatever_the_caller_says(tmp_path: Path) -> None:
    """Images for containers often forbid it, and then every start of Ansible and of the service compiles its libraries anew."""
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPYCACHEPREFIX": str(tmp_path)}
    subprocess.run([ROOT / "bedplate", "--list"], env=environment, check=True, stdout=subprocess.DEVNULL)
    assert list(tmp_path.rglob("fabric/*.pyc"))
