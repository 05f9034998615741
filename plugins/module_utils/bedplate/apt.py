"""apt and dpkg as the driver module uses them: every call waits for the locks, asks nothing, and says why it failed."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from ansible.module_utils.bedplate.driver_packages import is_driver_package, parse_madison, parse_simulation
from ansible.module_utils.bedplate.refusal import refusal

LOCKS = ("/var/lib/dpkg/lock-frontend", "/var/lib/dpkg/lock", "/var/lib/apt/lists/lock", "/var/cache/apt/archives/lock")
ABSENT = ("not-installed", "config-files")
_QUIET = {
    "DEBIAN_FRONTEND": "noninteractive",
    "APT_LISTCHANGES_FRONTEND": "none",
    "NEEDRESTART_SUSPEND": "1",
    "LC_ALL": "C",
}
_INSTALL = (
    "-y", "-q", "--no-install-recommends", "--allow-downgrades", "--allow-change-held-packages",
    "-o", "APT::Ignore-Hold=true", "-o", "Dpkg::Options::=--force-confdef", "-o", "Dpkg::Options::=--force-confold",
)  # fmt: skip


class Refused(Exception):
    """A refusal, whole, for fail_json."""


class Apt:
    """The package manager. wait: seconds to wait for another apt or dpkg to finish. did: what was changed, in words."""

    def __init__(self, wait: int) -> None:
        self.wait = wait
        self.did: list[str] = []

    def run(self, *argv: str, cwd: str | None = None) -> subprocess.CompletedProcess[str]:
        """A command in apt's quiet environment; its result is for the caller to judge."""
        environment = {**os.environ, **_QUIET}
        return subprocess.run(argv, capture_output=True, text=True, check=False, env=environment, cwd=cwd)

    def act(self, did: str, *argv: str, cwd: str | None = None) -> str:
        """A command that changes the host, after the locks are free. Raises Refused (BP160, BP161)."""
        self.wait_for_locks()
        done = self.run(argv[0], *self._lock_option(argv[0]), *argv[1:], cwd=cwd)
        if done.returncode != 0:
            raise Refused(
                refusal(
                    "BP161",
                    "package manager failed",
                    f"`{' '.join(argv[:3])} ...`: {errors_of(done)}",
                    "it to end well",
                    "correct what it names (sources, disk, broken packages), then run again; nothing else was changed.",
                )
            )
        if did:
            self.did.append(did)
        return done.stdout

    def _lock_option(self, program: str) -> list[str]:
        return ["-o", f"DPkg::Lock::Timeout={self.wait}"] if program == "apt-get" else []

    def wait_for_locks(self) -> None:
        """Return once no other apt or dpkg works (apt-daily after the first boot, somebody's upgrade). Raises Refused BP160."""
        until = time.monotonic() + self.wait
        while holders := [path for path in LOCKS if locked(path)]:
            if time.monotonic() > until:
                fix = "let it end, or stop it (ps aux | grep -E 'apt|dpkg'); nvidia_driver_apt_wait sets how long to wait."
                found = f"{holder_of(holders[0])} holding {holders[0]} for {self.wait} s"
                raise Refused(refusal("BP160", "package manager busy", found, "its lock free", fix))
            time.sleep(1)

    def installed(self) -> dict[str, str]:
        """Every fully installed package: its version. Foreign architectures as name:arch."""
        return {name: version for name, (status, version) in self.states().items() if status == "installed"}

    def present(self) -> dict[str, str]:
        """Every package that has files on the host, half-installed ones too: its version."""
        return {name: version for name, (status, version) in self.states().items() if status not in ABSENT}

    def broken(self) -> list[str]:
        """Packages whose installation or removal was cut off or failed."""
        return [name for name, (status, _) in self.states().items() if status not in ("installed", *ABSENT)]

    def states(self) -> dict[str, tuple[str, str]]:
        """Every package dpkg knows: status (installed, half-configured, config-files ...) and version."""
        shown = self.run(
            "dpkg-query", "-W", "-f", "${binary:Package}\t${Architecture}\t${db:Status-Status}\t${Version}\n"
        )
        native = self.run("dpkg", "--print-architecture").stdout.strip()
        states = {}
        for line in shown.stdout.splitlines():
            name, architecture, status, version = line.split("\t")
            bare = name.split(":")[0]
            states[bare if architecture in (native, "all") else f"{bare}:{architecture}"] = (status, version)
        return states

    def offered(self, names: Sequence[str]) -> dict[str, list[str]]:
        """Versions of each package in the repositories; an unknown name has none."""
        listed = parse_madison(self.run("apt-cache", "madison", *names).stdout) if names else {}
        return {name: listed.get(name, []) for name in names}

    def simulate(self, *words: str) -> dict[str, str | None]:
        """What apt-get would touch: package -> new version, None: removed. Raises Refused BP161."""
        done = self.run("apt-get", "-s", *_INSTALL, *words)
        if done.returncode != 0:
            fix = "see whether these versions exist in the host's sources (apt-cache policy NAME)."
            found = f"`apt-get -s {' '.join(words)[:300]}`: {errors_of(done)}"
            raise Refused(refusal("BP161", "packages do not go together", found, "one set of one version", fix))
        touched: dict[str, str | None] = parse_simulation(done.stdout)
        return touched

    def install(self, did: str, words: Sequence[str]) -> None:
        """Install packages or files (name=version, /path.deb) and remove others (name-), in one transaction."""
        self.act(did, "apt-get", *_INSTALL, "install", *words)

    def repair(self) -> bool:
        """Finish what an interrupted dpkg left behind. Returns whether there was something. Raises Refused BP161."""
        broken = self.broken()
        if not broken and not any(Path("/var/lib/dpkg/updates").glob("[0-9]*")):
            return False
        self.wait_for_locks()
        # Its own failure (a package whose script fails) is answered by the repair that follows.
        self.run("dpkg", "--configure", "-a", "--force-confdef", "--force-confold")
        told = ", ".join(broken[:6]) or "dpkg"
        self.act(f"finished an interrupted installation ({told})", "apt-get", *_INSTALL, "-f", "install")
        return True

    def update(self) -> str:
        """Read the repositories' indexes; returns what could not be read, for who then misses a package."""
        self.wait_for_locks()
        done = self.run("apt-get", "update", "-q")
        return " ".join(line for line in done.stderr.splitlines() if line.startswith(("E:", "W: Failed")))

    def hold(self, names: Iterable[str]) -> None:
        """Hold packages that are not held yet."""
        missing = sorted(set(names) - self.holds())
        if missing:
            self.act(f"held {len(missing)} packages", "apt-mark", "hold", *missing)

    def holds(self) -> set[str]:
        """Held packages."""
        return set(self.run("apt-mark", "showhold").stdout.split())

    def threatened(self) -> list[str]:
        """Driver packages that an upgrade of everything, or unattended-upgrades, would touch: there must be none."""
        touched = set(parse_simulation(self.run("apt-get", "-s", "-q", "dist-upgrade").stdout))
        if shutil.which("unattended-upgrade"):
            said = self.run("unattended-upgrade", "--dry-run", "-d")
            for line in (said.stdout + said.stderr).splitlines():
                if found := re.search(r"Packages that will be upgraded:(.*)", line):
                    touched |= set(found[1].split())
        return sorted(name for name in touched if is_driver_package(name))


def errors_of(done: subprocess.CompletedProcess[str]) -> str:
    """What a failed command said: its error lines, else its last lines."""
    lines = (done.stderr + "\n" + done.stdout).splitlines()
    said = [line.strip() for line in lines if line.startswith(("E:", "dpkg: error", "Err:", "Error!"))]
    return " ".join(said[:6] or [line.strip() for line in lines if line.strip()][-5:]) or f"status {done.returncode}"


def locked(path: str) -> bool:
    """Whether another process holds apt's or dpkg's lock on a file."""
    try:
        with open(path, "rb+") as lock:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def holder_of(path: str) -> str:
    """'unattended-upgr (process 812)', who holds a lock; 'another process' if that cannot be told."""
    try:
        inode = str(os.stat(path).st_ino)
        for line in Path("/proc/locks").read_text().splitlines():
            fields = line.split()
            if fields[5].split(":")[-1] == inode:
                name = Path(f"/proc/{fields[4]}/comm").read_text().strip()
                return f"{name} (process {fields[4]})"
    except (OSError, IndexError):
        pass
    return "another process"
