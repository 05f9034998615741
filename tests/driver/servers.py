"""What the driver tests ask of a server and do to it."""

from __future__ import annotations

import io
import json
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import yaml
from rich.console import Console

from ops.inventory import Host
from ops.paths import ROOT, VENV_BIN, WORK
from ops.play import Outcome, play
from tests.fixtures.driver_packages.deb import Package
from tests.fixtures.driver_packages.repository import publish
from tests.fixtures.machine import ON_SERVER, stand_in

INVENTORY = WORK / "driver" / "inventory"
SANDBOX = {"sandbox_inventory": str(INVENTORY), "sandbox_prefix": "driver", "sandbox_first_address": 121}
CONSOLE = Console(stderr=True)
# The kernel of the recorded machine, and drivers newer than any real one of their branch.
KERNEL = "6.1.0-41-amd64"
OLD, OTHER, NEWER = "470.900.02", "535.901.01", "535.902.01"
FAILS_TO_BUILD, NEVER_LOADS = "535.903.01", "535.904.01"

STATE = rf"""
import glob, json, os, re, subprocess
def said(*argv): return subprocess.run(argv, capture_output=True, text=True).stdout
def read(path): return open(path).read() if os.path.exists(path) else ""
rows = [row.split("\t") for row in said("dpkg-query", "-W", "-f", "${{Package}}\t${{db:Status-Abbrev}}\t${{Version}}\n").splitlines()]
rows = [row for row in rows if re.search("nvidia|cuda|^dkms$|^linux-headers", row[0]) and row[1].strip() not in ("un", "rc")]
library = "/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1"
loaded = re.search(r"\s(\d+\.\d+\.\d+)\s", read("{ON_SERVER}/proc/driver/nvidia/version"))
print(json.dumps({{
    "packages": {{name: version for name, status, version in rows}},
    "broken": [name for name, status, version in rows if status.strip() not in ("ii", "hi")],
    "holds": sorted(said("apt-mark", "showhold").split()),
    "loaded": loaded and loaded[1],
    "user_space": os.path.realpath(library).partition(".so.")[2] if os.path.exists(library) else None,
    "dkms": sorted(said("/usr/sbin/dkms", "status").splitlines()) if os.path.exists("/usr/sbin/dkms") else [],
    "boot_id": read("/proc/sys/kernel/random/boot_id").strip(),
    "settings": {{path: read(path) for folder in ("preferences.d", "apt.conf.d", "sources.list.d")
                 for path in sorted(glob.glob(f"/etc/apt/{{folder}}/*"))
                 if "bedplate" in read(path).lower() or "bedplate" in path}},
    "modprobe": {{path: read(path) for path in sorted(glob.glob("/etc/modprobe.d/*"))}},
    "kept": sorted(glob.glob("/var/lib/bedplate/driver/*/*.deb")),
    "receipt": json.loads(read("/etc/ansible/facts.d/bedplate.fact") or "{{}}"),
    "persistenced": said("systemctl", "is-active", "nvidia-persistenced").strip(),
}}))
"""


@dataclass(frozen=True)
class State:
    """What a server says of its driver. packages: name -> version; broken: those dpkg has not finished."""

    packages: dict[str, str]
    broken: list[str]
    holds: list[str]
    loaded: str | None
    user_space: str | None
    dkms: list[str]
    boot_id: str
    settings: dict[str, str]
    modprobe: dict[str, str]
    kept: list[str]
    receipt: dict[str, Any]
    persistenced: str

    @property
    def driver_packages(self) -> dict[str, str]:
        """Those a hold must keep: everything NVIDIA's."""
        return {name: version for name, version in self.packages.items() if "nvidia" in name or "cuda" in name}

    def same_driver(self, other: State) -> bool:
        """Whether everything but the boot is as in the other state."""
        return {**vars(self), "boot_id": ""} == {**vars(other), "boot_id": ""}


def sandbox(state: str, servers: int = 2) -> Outcome:
    """Make or remove this suite's servers."""
    return play(
        "playbooks/sandbox.yml", None, CONSOLE, extra={**SANDBOX, "sandbox_servers": servers, "sandbox_state": state}
    )


def gpu_server(host: Host, packages: Iterable[Package]) -> Host:
    """Give a bare server the hardware of a GPU machine and a repository with driver packages."""
    machine = stand_in(host, "no-driver", driver="installed")
    settings = {"bedplate_machine": machine, "nvidia_driver_source": "distribution"}
    (INVENTORY / "group_vars" / "all" / "machine.yml").write_text(yaml.safe_dump(settings))
    publish(host, packages)
    return host


def run_playbook(playbook: str, host: Host, check: bool = False, **variables: Any) -> Outcome:
    """A playbook on one server, with variables of the driver's."""
    return play(playbook, INVENTORY, CONSOLE, check=check, limit=host.name, extra=variables)


def infrastructure(host: Host, check: bool = False, **variables: Any) -> Outcome:
    """playbooks/infrastructure.yml on one server."""
    return run_playbook("playbooks/infrastructure.yml", host, check, **variables)


def state_of(host: Host) -> State:
    """The server's driver, by its own account."""
    return State(**json.loads(on(host, "python3 -", STATE)))


def on(host: Host, command: str, stdin: str = "", check: bool = True) -> str:
    """A command as root on the server; its output, stdout and stderr."""
    with host.connection() as connection:
        done = connection.run(
            f"sudo sh -c {shlex.quote(command)} 2>&1",
            in_stream=io.StringIO(stdin),
            hide=True,
            warn=not check,
            timeout=180,
        )
    return str(done.stdout)


def messages(outcome: Outcome) -> str:
    """What the failed tasks said."""
    return "\n".join(failure.message for failure in outcome.run.failures)


def explain(outcome: Outcome) -> str:
    """What to read when a run did not end as expected."""
    changed = [f"{task.role}: {task.name}" for task in outcome.run.tasks if "changed" in task.results.values()]
    return f"{messages(outcome)}\nchanged: {changed}\nlog: {outcome.log}"


def kill_when(reached: Callable[[], bool], playbook: str, host: Host, seconds: float = 60, **variables: Any) -> bool:
    """Run a playbook and kill -9 the whole of ansible-playbook once the moment has come; False if it ended or never came."""
    argv = [str(VENV_BIN / "ansible-playbook"), playbook, "-i", str(INVENTORY), "--limit", host.name]
    with subprocess.Popen(
        [*argv, "-e", json.dumps(variables)],
        cwd=ROOT,
        env=dict(os.environ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        until = time.monotonic() + seconds
        while process.poll() is None and time.monotonic() < until:
            if reached():
                os.killpg(process.pid, signal.SIGKILL)
                return True
            time.sleep(0.5)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        return False


def pull_the_plug(host: Host) -> None:
    """Stop the server hard and start it again."""
    subprocess.run([ROOT / "playbooks/files/sandbox.sh", "stop", host.name], check=True, stdout=subprocess.DEVNULL)
    assert sandbox("present").ok
