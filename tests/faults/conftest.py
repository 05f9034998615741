"""Servers for the destructive tests: an inventory of their own, and the state of a server as something to compare."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import time
from pathlib import Path

from ops.inventory import Host
from ops.paths import VENV_BIN, WORK
from ops.play import Outcome, play
from tests.site.conftest import CONSOLE

ROOT = Path(__file__).resolve().parents[2]
INVENTORY = WORK / "faults" / "inventory"
SANDBOX = {"sandbox_inventory": str(INVENTORY), "sandbox_prefix": "fault", "sandbox_first_address": 71}

# Everything Bedplate put on a server, as `type mode path -> link target`, and the content of what it wrote or copied, with the
# host's own name and address made neutral. Left out: caches, the package caches of conda and uv, bytecode, and what is random on
# every server (the TLS key pair, the times in manifests).
STATE = r"""
find /opt/bedplate /etc/bedplate /etc/nginx/conf.d /etc/systemd/system /etc/ansible/facts.d \
  \( -path '*/pkgs' -o -path '*/uv-cache' -o -path '*/cache' -o -name __pycache__ -o -path /etc/bedplate/tls \) -prune -o \
  \( -name history -path '*/conda-meta/*' \) -prune -o -printf '%y %m %p %l\n' | sort
find /etc/bedplate /etc/nginx/conf.d /etc/systemd/system /opt/bedplate/models /opt/bedplate/releases /opt/bedplate/web \
  -path /etc/bedplate/tls -prune -o -name __pycache__ -prune -o -type f -print | sort |
  while read -r file; do
    printf '%s %s\n' "$(sed 's/ADDRESS_OF_HOST/ADDRESS/g; s/NAME_OF_HOST/NAME/g; s/"mtime_ns": [0-9]*//' "$file" | sha256sum | cut -c1-64)" "$file"
  done
grep -v fingerprint /etc/ansible/facts.d/bedplate.fact | sed 's/ADDRESS_OF_HOST/ADDRESS/g; s/NAME_OF_HOST/NAME/g'
systemctl is-active nginx bedplate-inference.socket bedplate-inference.service
"""


def sandbox(servers: int, state: str = "present") -> Outcome:
    """Make or remove this suite's servers."""
    return play(
        "playbooks/sandbox.yml", None, CONSOLE, extra={**SANDBOX, "sandbox_servers": servers, "sandbox_state": state}
    )


def state_of(host: Host) -> list[str]:
    """What Bedplate put on the host, line by line."""
    script = STATE.replace("ADDRESS_OF_HOST", host.address.replace(".", r"\.")).replace("NAME_OF_HOST", host.name)
    with host.connection() as connection:
        return str(
            connection.run("sudo sh -s", in_stream=io.StringIO(script), hide=True, timeout=120).stdout
        ).splitlines()


def kill_site_at(limit: str, task: str, seconds: float) -> bool:
    """Run site.yml on one host and kill -9 the whole of ansible-playbook that long after the task began; True if it got there."""
    environment = {**os.environ, "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.jsonl", "PYTHONUNBUFFERED": "1"}
    argv = [str(VENV_BIN / "ansible-playbook"), "site.yml", "-i", str(INVENTORY), "--limit", limit]
    with subprocess.Popen(
        argv,
        cwd=ROOT,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("{"):
                event = json.loads(line)
                if event["_event"] == "v2_playbook_on_task_start" and event["task"]["name"].endswith(task):
                    time.sleep(seconds)
                    os.killpg(process.pid, signal.SIGKILL)
                    return True
    return False
