"""Python environments on this machine made from hash locks: the inference service's, and those of its tests and benchmark."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

from rich.console import Console

from ops.paths import ROOT, WORK
from ops.sources import upstream

SERVER = ROOT / "app" / "server"
LOCKS = [
    SERVER / "requirements" / "inference.txt",
    ROOT / "roles" / "pytorch" / "files" / "locks" / "torch-2.13.0-cpu.txt",
]
TEST_LOCKS = [SERVER / "requirements" / name for name in ("test.txt", "test-models.txt")]


class EnvironmentFailed(Exception):
    """The environment could not be made; the message has code, cause and fix."""


def service_python(console: Console, *, tests: bool = False) -> Path:
    """The interpreter of the service's environment. tests: with the packages of the service's test suite."""
    name, locks = ("service-tests", [*LOCKS, *TEST_LOCKS]) if tests else ("service", LOCKS)
    return locked_python(name, locks, "PyTorch for the CPU and the service's packages; once, under a minute", console)


def locked_python(name: str, locks: list[Path], holds: str, console: Console) -> Path:
    """The interpreter of an environment below .bedplate/envs, made from hash locks when it is missing or they changed.

    It is stamped last, so a half-made one is made again.
    """
    content = b"".join(lock.read_bytes() for lock in locks) + sys.version.encode()
    stamp = hashlib.sha256(content).hexdigest()
    home = WORK / "envs" / name
    python = home / "bin" / "python"
    if (home / "stamp").is_file() and (home / "stamp").read_text() == stamp:
        return python
    console.print(f"Preparing {home.relative_to(ROOT)} ({holds})", highlight=False)
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(home)], check=True)
    install = [
        str(python),
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-compile",
        "--no-deps",
        "--require-hashes",
    ]
    install += [word for lock in locks for word in ("-r", str(lock))]
    # The machine's own pip configuration first: an index that cannot be reached would only cost its time-outs.
    index = upstream("pytorch_wheels") + "/cpu"
    done = subprocess.run(install, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        done = subprocess.run([*install, "--extra-index-url", index], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise EnvironmentFailed(
            f"BP007 the environment {name} could not be made: found {done.stderr.strip().splitlines()[-1:]}, wanted the packages of "
            f"{', '.join(str(lock.relative_to(ROOT)) for lock in locks)}. Fix: let pip reach an index that has them "
            f"(pip config set global.index-url ...; PyTorch's own is {index})."
        )
    (home / "stamp").write_text(stamp)
    return python
