"""`./bedplate lock`: the hash lock of a torch build, made with uv from where this machine's pip looks for packages."""

from __future__ import annotations

import os
import shlex
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console

from ops.paths import LOCKS, ROOT, VENV_BIN, short
from ops.sources import upstream
from plugins.module_utils.bedplate.pipconfig import config_files, pip_sources, requirement_options, uv_environment
from plugins.module_utils.bedplate.torch_locks import entries, header, name_of
from plugins.module_utils.stack import load_tables
from plugins.module_utils.stack.tables import Cuda, Release
from plugins.module_utils.stack.versions import version

# What the service runs with: a lock of torch must agree with it, and holds only what is not in it.
SERVICE_LOCK = ROOT / "app" / "server" / "requirements" / "inference.txt"
SERVICE_PYTHON = "3.11"


class NotLocked(Exception):
    """No lock could be made; the message is the cause."""


def lock(torch: str, variant: str, folder: Path, index: str | None, console: Console) -> int:
    """Write folder/torch-<torch>-<variant>.txt; returns 1, and writes nothing, where that is not possible."""
    try:
        text = lock_text(torch, variant, index, _command(torch, variant, folder, index))
    except NotLocked as problem:
        fix = "see which builds exist with ./bedplate resolve, and let pip or --index reach them (docs/how-to.md)"
        message = f"BP308 no lock for torch {torch}+{variant}: found {problem}, wanted its wheels and those it needs. Fix: {fix}."
        console.print(message, highlight=False, markup=False, soft_wrap=True)
        return 1
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name_of(torch, variant)
    path.write_text(text, encoding="utf-8")
    said = text.splitlines()[0].removeprefix("# ")
    console.print(f"{short(path)}: {said}", highlight=False, markup=False, soft_wrap=True)
    return 0


def lock_text(torch: str, variant: str, index: str | None, made_by: str) -> str:
    """The whole lock. Raises NotLocked with uv's own words."""
    tables = load_tables()
    release = tables.release(torch)
    if release is None:
        raise NotLocked(
            f"torch {torch} not among the releases known, {tables.releases[-1].version} to {tables.releases[0].version}"
        )
    published = [arch for arch in release.pypi_variant if variant == "cpu" or variant in release.wheels.get(arch, {})]
    plain = [arch for arch in published if release.pypi_variant[arch] == variant]
    if not published:
        raise NotLocked("no such build of that release")
    wheel_index = index or f"{upstream('pytorch_wheels')}/{variant}"
    # A build that is the release's plain one comes from everybody's index; the others from PyTorch's own.
    requirement = f"torch=={torch}" if plain else f"torch=={torch}+{variant}"
    resolved: dict[str, dict[str, str]] = {}
    problems = []
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as caps:
        caps.write(_caps(tables.cuda.get(variant)))
        caps.flush()
        wanted = f"{requirement}\n-c {SERVICE_LOCK}\n-c {caps.name}\n"
        for arch in plain or published:
            try:
                resolved[arch] = dict(entries(_compiled(wanted, arch, SERVICE_PYTHON, wheel_index, not plain)))
            except NotLocked as problem:
                problems.append(str(problem))
    if not resolved:
        raise NotLocked(problems[0])
    packages = _merged(resolved)
    pythons = [
        python
        for python in _pythons(release)
        if all(_installs(packages, arch, python, wheel_index, not plain) for arch in resolved)
    ]
    if not pythons:
        raise NotLocked(f"no Python from {SERVICE_PYTHON} on for which every package has a wheel")
    return header(torch, variant, list(resolved), pythons, made_by) + packages


def _command(torch: str, variant: str, folder: Path, index: str | None) -> str:
    words = ["./bedplate", "lock", "--torch", torch, "--variant", variant]
    words += ["--folder", str(short(folder))] if folder != LOCKS else []
    return shlex.join([*words, *(["--index", index] if index else [])])


def _caps(cuda: Cuda | None) -> str:
    """From CUDA 13 on torch leaves these two open; libraries of a later CUDA than its own are not what it was tested with."""
    if cuda is None or cuda.version.major < 13:
        return ""
    major, minor = cuda.version.parts[:2]
    return "".join(f"{name}<{major}.{minor + 1}\n" for name in ("nvidia-nvjitlink", "cuda-bindings"))


def _pythons(release: Release) -> list[str]:
    return [python for python in release.python if version(python) >= version(SERVICE_PYTHON)]


def _merged(resolved: Mapping[str, Mapping[str, str]]) -> str:
    """The packages the service's lock does not have, those that only one architecture needs marked so."""
    known = {name.lower() for name, _ in entries(SERVICE_LOCK.read_text(encoding="utf-8"))}
    merged: dict[str, None] = {}
    for name in sorted({name for packages in resolved.values() for name in packages} - known):
        by_arch = {arch: packages[name] for arch, packages in resolved.items() if name in packages}
        everywhere = len(by_arch) == len(resolved) and len(set(by_arch.values())) == 1
        for arch, entry in by_arch.items():
            pin, rest = entry.split(" ", 1)
            merged[entry if everywhere else f"{pin} ; platform_machine == '{arch}' {rest}"] = None
    return "".join(f"{entry}\n" for entry in merged)


def _installs(packages: str, arch: str, python: str, wheel_index: str, try_index: bool) -> bool:
    try:
        _compiled(packages, arch, python, wheel_index, try_index, "--no-deps")
    except NotLocked:
        return False
    return True


def _compiled(wanted: str, arch: str, python: str, wheel_index: str, try_index: bool, *options: str) -> str:
    """What uv locks for a machine and a Python: with pip's own sources, and where that fails with the wheel index too."""
    texts = [Path(path).read_text(encoding="utf-8") for path in config_files(os.environ) if Path(path).is_file()]
    sources = pip_sources(texts, os.environ)
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("UV_", "PIP_"))}
    environ.update(UV_NO_CONFIG="1", UV_INDEX_STRATEGY="unsafe-best-match", UV_SYSTEM_CERTS="1")
    argv = [str(VENV_BIN / "uv"), "pip", "compile", "--quiet", "--generate-hashes", "--no-header", "--no-annotate"]
    argv += [
        "--only-binary",
        ":all:",
        "--python-version",
        python,
        "--python-platform",
        f"{arch}-manylinux_2_28",
        *options,
    ]
    failed = ""
    for extra in ("", wheel_index) if try_index else ("",):
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as requirements:
            requirements.write(requirement_options(sources, extra) + wanted)
            requirements.flush()
            done = subprocess.run(
                [*argv, requirements.name],
                capture_output=True,
                text=True,
                check=False,
                env={**environ, **uv_environment(sources)},
            )
        if done.returncode == 0:
            return done.stdout
        failed = failed or " ".join(done.stderr.split())
    raise NotLocked(failed[:600])
