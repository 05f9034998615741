"""build.py: the page is built once per content, whole or not at all, and a failure says what to do."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

REPO = Path(__file__).parents[2]
WEB = REPO / "app/web"
WORK = REPO / ".bedplate/web-work"  # kept between runs, for Node and the packages are 650 MB


def start(output: Path, work: Path = WORK, script: Path = WEB / "build.py") -> subprocess.Popen[str]:
    command: list[str | Path] = [sys.executable, script, "--output", output, "--work", work]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def result(process: subprocess.Popen[str]) -> dict[str, object]:
    stdout, stderr = process.communicate()
    assert process.returncode == 0, stderr
    answer: dict[str, object] = json.loads(stdout)
    return answer


def hash_of(web: Path) -> str:
    return subprocess.check_output([sys.executable, web / "build.py", "--hash-only"], text=True).strip()


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the sources that a test may change."""
    shutil.copytree(WEB, tmp_path / "web", ignore=shutil.ignore_patterns("node_modules", "dist"))
    return tmp_path / "web"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, object]]:
    """What two builds at once into one folder said."""
    output = tmp_path_factory.mktemp("pages")
    return [result(process) for process in (start(output), start(output))]


def test_two_builds_at_once_make_one_page_and_leave_the_sources_alone(built: list[dict[str, object]]) -> None:
    assert sorted(bool(answer["built"]) for answer in built) == [False, True]
    assert {str(answer["hash"]) for answer in built} == {hash_of(WEB)}
    page = Path(str(built[0]["path"]))
    assert "__CSP_NONCE__" in (page / "index.html").read_text()
    assert {"node_modules", "dist"}.isdisjoint(path.name for path in WEB.iterdir())


def test_killed_build_leaves_nothing_and_the_next_one_succeeds(tmp_path: Path) -> None:
    stale = WORK / "tree/stale"
    stale.parent.mkdir(parents=True, exist_ok=True)
    stale.touch()
    process = start(tmp_path)
    while stale.exists():  # the sources are being copied, and the page is not compiled yet
        assert process.poll() is None
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert [path for path in tmp_path.iterdir() if not path.name.startswith(".")] == []
    assert result(start(tmp_path))["built"] is True


def test_hash_follows_the_sources_but_not_the_tests(copy: Path) -> None:
    unchanged = hash_of(copy)
    assert unchanged == hash_of(WEB)
    (copy / "src/api/sse.test.ts").write_text("changed")
    (copy / "README.md").write_text("changed")
    assert hash_of(copy) == unchanged
    (copy / "src/main.css").write_text("changed")
    assert hash_of(copy) != unchanged


def test_page_that_does_not_compile_is_refused_with_code_file_and_fix(copy: Path, tmp_path: Path) -> None:
    (copy / "src/main.tsx").write_text("const wrong: number = 'text'\n")
    process = start(tmp_path / "out", script=copy / "build.py")
    _, stderr = process.communicate()
    assert process.returncode == 1
    assert stderr.startswith("BP704 ")
    assert "Fix: " in stderr
    assert "src/main.tsx" in stderr
    assert not (tmp_path / "out").exists()


def test_output_that_cannot_be_written_is_refused_with_code_and_fix(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    process = start(tmp_path / "file")
    _, stderr = process.communicate()
    assert process.returncode == 1
    assert stderr.startswith("BP705 ")
    assert "Fix: " in stderr


def test_lock_has_hashes_and_no_addresses() -> None:
    packages = json.loads((WEB / "package-lock.json").read_text())["packages"]
    installed = {name: package for name, package in packages.items() if name}
    assert len(installed) > 100
    assert [name for name, package in installed.items() if "integrity" not in package] == []
    assert [name for name, package in installed.items() if "resolved" in package] == []
    direct = packages[""]["dependencies"] | packages[""]["devDependencies"]
    assert [version for version in direct.values() if not version[0].isdigit()] == []


def test_unit_tests_of_the_page_pass() -> None:
    done = subprocess.run([sys.executable, WEB / "build.py", "--test", "--work", WORK], text=True, capture_output=True)
    assert done.returncode == 0, done.stderr


def test_page_is_light(built: list[dict[str, object]]) -> None:
    answer = built[0]
    weight, assets = answer["bytes"], list((Path(str(answer["path"])) / "assets").iterdir())
    assert isinstance(weight, dict)
    assert 0 < weight["first"] <= 350_000
    assert weight["first"] < weight["all"] <= 560_000
    for script in (file for file in assets if file.suffix in {".js", ".css"}):
        assert gzip.decompress(Path(f"{script}.gz").read_bytes()) == script.read_bytes()
        assert Path(f"{script}.br").stat().st_size <= Path(f"{script}.gz").stat().st_size
    # One format of each font is enough.
    assert {file.suffix for file in assets} == {".js", ".css", ".gz", ".br", ".woff2"}


def test_page_that_grows_too_large_is_refused_with_sizes_and_fix(copy: Path, tmp_path: Path) -> None:
    build = copy / "build.py"
    build.write_text(build.read_text().replace("= 350_000,", "= 35_000,"))
    process = start(tmp_path / "out", script=build)
    _, stderr = process.communicate()
    assert process.returncode == 1
    assert stderr.startswith("BP450 ")
    assert "Fix: " in stderr and "of at most 35000 bytes" in stderr
    assert not (tmp_path / "out").exists()
