"""Unit tests run the plugins' own code on the controller; modules run as they do on a server, in a process of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ansible.module_utils
import pytest

ROOT = Path(__file__).resolve().parents[2]
# Where `import ansible.module_utils.bedplate` finds it, as in the controller-side plugins.
ansible.module_utils.__path__.append(str(ROOT / "plugins" / "module_utils"))

ModuleRunner = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session")
def run_module() -> ModuleRunner:
    """Run a module of plugins/modules with arguments, as Ansible would: run_module("bedplate_receipt", sections={})."""

    def run(name: str, _check_mode: bool = False, **arguments: Any) -> dict[str, Any]:
        script = (
            "import sys, runpy, ansible.module_utils\n"
            f"ansible.module_utils.__path__.append({str(ROOT / 'plugins/module_utils')!r})\n"
            "from ansible.module_utils.testing import patch_module_args\n"
            "import json\n"
            "with patch_module_args(json.loads(sys.argv[1])):\n"
            f"    runpy.run_path({str(ROOT / 'plugins/modules' / (name + '.py'))!r}, run_name='__main__')\n"
        )
        given = {**arguments, "_ansible_check_mode": _check_mode}
        done = subprocess.run(
            [sys.executable, "-c", script, json.dumps(given)],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ},
        )
        assert done.stdout, done.stderr
        result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return result

    return run
