"""`./bedplate lock`: what uv resolves for each machine becomes one lock; where it resolves nothing, nothing is written.

uv and the package index are the edge here and stand in; the locks of the checkout were made with the real ones.
"""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from ops import torch_lock
from ops.torch_lock import NotLocked, lock
from plugins.module_utils.bedplate.torch_locks import entries, lock_problems, read_lock

SUM = f" \\\n    --hash=sha256:{'0' * 64}\n"


def uv(wanted: str, arch: str, python: str, wheel_index: str, try_index: bool, *options: str) -> str:
    """An index with torch 2.13.0 for both machines, one library for each, and wheels up to Python 3.13."""
    if python == "3.14":
        raise NotLocked("no wheels for Python 3.14")
    torch = wanted.splitlines()[0].split()[0] if "--no-deps" not in options else "torch==2.13.0"
    library = "nvidia-x86==1.0" if arch == "x86_64" else "nvidia-arm==2.0"
    return "".join(f"{pin}{SUM}" for pin in (torch, "triton==3.7.1", "sympy==1.14.0", library))


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    monkeypatch.setattr(torch_lock, "_compiled", uv)
    return io.StringIO()


def test_the_lock_is_for_the_machines_and_pythons_that_resolve(tmp_path: Path, said: io.StringIO) -> None:
    assert lock("2.13.0", "cu130", tmp_path, None, Console(file=said)) == 0
    path = tmp_path / "torch-2.13.0-cu130.txt"
    found = read_lock(str(path), path.read_text())
    assert lock_problems(str(path), path.read_text()) == []
    assert (found["architectures"], found["pythons"]) == (["x86_64", "aarch64"], ["3.11", "3.12", "3.13"])
    assert f"./bedplate lock --torch 2.13.0 --variant cu130 --folder {tmp_path}" in path.read_text()


def test_what_the_service_locks_is_left_out_and_what_one_machine_needs_is_marked(
    tmp_path: Path, said: io.StringIO
) -> None:
    lock("2.13.0", "cu130", tmp_path, None, Console(file=said))
    packages = dict(entries((tmp_path / "torch-2.13.0-cu130.txt").read_text()))
    assert list(packages) == ["nvidia-arm", "nvidia-x86", "torch", "triton"]
    assert packages["nvidia-arm"].startswith("nvidia-arm==2.0 ; platform_machine == 'aarch64' \\\n")
    assert ";" not in packages["triton"]


def test_a_build_that_is_not_the_releases_plain_one_is_asked_for_by_name(tmp_path: Path, said: io.StringIO) -> None:
    lock("2.13.0", "cu126", tmp_path, None, Console(file=said))
    assert "torch==2.13.0+cu126" in (tmp_path / "torch-2.13.0-cu126.txt").read_text()


@pytest.mark.parametrize(
    ("torch", "variant", "cause"),
    [("2.99.0", "cu130", "not among the releases known"), ("2.13.0", "cu118", "no such build")],
)
def test_what_was_never_published_is_refused_and_nothing_written(
    torch: str, variant: str, cause: str, tmp_path: Path, said: io.StringIO
) -> None:
    assert lock(torch, variant, tmp_path, None, Console(file=said)) == 1
    assert said.getvalue().startswith("BP308 ") and cause in said.getvalue() and "Fix: " in said.getvalue()
    assert list(tmp_path.iterdir()) == []


def test_what_uv_cannot_resolve_is_refused_in_its_words(
    tmp_path: Path, said: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing(*_: object) -> str:
        raise NotLocked("because torch depends on sympy==1.13.1")

    monkeypatch.setattr(torch_lock, "_compiled", nothing)
    assert lock("2.13.0", "cu130", tmp_path / "new", None, Console(file=said)) == 1
    assert "sympy==1.13.1" in said.getvalue() and not (tmp_path / "new").exists()
