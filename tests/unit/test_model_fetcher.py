"""A model arrives whole and proven, whatever its origins do: real aria2, a hub on this machine that fails on demand."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.bedplate import aria2
from ansible.module_utils.bedplate.manifest import tree_manifest
from ansible.module_utils.bedplate.model_fetcher import Fetcher, Stopped, main

from tests.fixtures.hub.faults import Fault
from tests.fixtures.hub.server import Hub, Repository

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "hf_canary_7f3a"
BIG = 24_000_000
WEIGHTS = "acme/tiny/model.safetensors"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with one large file and two small ones."""
    folder = tmp_path_factory.mktemp("source")
    (folder / "model.safetensors").write_bytes(random.Random(5).randbytes(BIG))
    (folder / "config.json").write_text("{}")
    (folder / "sub").mkdir()
    (folder / "sub" / "words.txt").write_text("a b c")
    return folder


@pytest.fixture
def hub(source: Path) -> Iterator[Hub]:
    with Hub({"acme/tiny": Repository(source), "acme/gated": Repository(source, token=TOKEN)}) as running:
        yield running


def origin(hub: Hub, repo: str = "acme/tiny", **more: Any) -> dict[str, Any]:
    return {"kind": "files", "name": "the hub", "url": f"{hub.url}/{repo}/resolve/main/{{path}}", "tries": 2, **more}


def fetcher(tmp_path: Path, source: Path, *origins: dict[str, Any], **more: Any) -> Fetcher:
    place = tmp_path / "place"
    place.mkdir(exist_ok=True)
    dest = str(tmp_path / "models" / "acme--tiny@0123456789ab")
    job = {"name": "tiny", "dest": dest, "manifest": tree_manifest(source), "origins": list(origins), **more}
    return Fetcher(job, place, sleep=lambda seconds: None)


def is_whole(fetched: Fetcher, source: Path) -> bool:
    files = {
        path: hashlib.sha256((fetched.dest / path).read_bytes()).hexdigest()
        for path in ("model.safetensors", "config.json")
    }
    return files == {path: hashlib.sha256((source / path).read_bytes()).hexdigest() for path in files}


def test_a_model_is_fetched_proven_and_published(hub: Hub, tmp_path: Path, source: Path) -> None:
    one = fetcher(tmp_path, source, origin(hub))
    result = one.run()
    assert is_whole(one, source) and result["fetched"] == result["bytes"] > BIG
    assert json.loads((one.place / "progress.json").read_text())["done"] == result["bytes"]
    assert sorted(path.name for path in one.dest.iterdir()) == [
        "config.json",
        "manifest.json",
        "model.safetensors",
        "sub",
    ]


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=429, retry_after="1"),
        Fault(status=503),
        Fault(cut=3_000_000, times=2),
        Fault(hops=3),
        Fault(wrong=True, times=9),
        Fault(delay=0.3),
    ],
    ids=["429", "503", "cut", "redirects", "wrong bytes", "slow"],
)
def test_what_passes_does_not_stop_it(hub: Hub, tmp_path: Path, source: Path, fault: Fault) -> None:
    hub.faults.add(WEIGHTS, fault)
    if fault.wrong:
        # One of aria2's connections fetches the end; each round of wrong bytes uses up one at least.
        fault.times = 2
    one = fetcher(tmp_path, source, origin(hub))
    one.run()
    assert is_whole(one, source)


@pytest.mark.parametrize(
    "fault", [Fault(wrong=True, times=-1), Fault(size=-7, times=-1)], ids=["wrong bytes", "wrong size"]
)
def test_wrong_files_are_never_published_and_are_gone(hub: Hub, tmp_path: Path, source: Path, fault: Fault) -> None:
    hub.faults.add(WEIGHTS, fault)
    one = fetcher(tmp_path, source, origin(hub))
    with pytest.raises(Stopped, match=r"BP511 .*model\.safetensors.*Fix: "):
        one.run()
    assert not one.dest.exists() and not (one.folder / "model.safetensors").exists()
    assert (one.folder / "config.json").exists(), "what is right is kept"


def test_the_next_origin_gives_what_the_first_does_not(hub: Hub, tmp_path: Path, source: Path) -> None:
    dead = {"kind": "files", "name": "a mirror that is down", "url": "http://127.0.0.1:9/{path}", "tries": 1}
    one = fetcher(tmp_path, source, dead, origin(hub))
    one.run()
    assert is_whole(one, source)


def test_without_any_origin_it_says_what_each_of_them_said(tmp_path: Path, source: Path) -> None:
    dead = {"kind": "files", "name": "the mirror", "url": "http://127.0.0.1:9/{path}", "tries": 1}
    with pytest.raises(Stopped, match=r"BP513 .*the mirror: .*refused"):
        fetcher(tmp_path, source, dead).run()


def test_a_token_goes_to_its_hub_and_nowhere_else(hub: Hub, tmp_path: Path, source: Path) -> None:
    hub.meter.rate, hub.meter.hold_after = 20e6, BIG // 2
    one = fetcher(tmp_path, source, origin(hub, "acme/gated", secret="hub"), secrets={"hub": TOKEN})
    lists: list[str] = []
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(0.05):
            for place in Path("/proc").glob("[0-9]*"):
                try:
                    if (place / "comm").read_text() == "aria2c\n":
                        lists.append((place / "cmdline").read_text() + (place / "environ").read_text())
                        hub.meter.hold_after = 0
                except OSError:
                    continue

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        one.run()
    finally:
        ended.set()
        watcher.join()
    assert is_whole(one, source) and hub.leaked == []
    assert lists and not any(TOKEN in line for line in lists)


def test_a_killed_transfer_goes_on_where_it_was(hub: Hub, tmp_path: Path, source: Path) -> None:
    # It waits there until it is killed.
    hub.meter.rate, hub.meter.hold_after = 12e6, BIG * 2 // 3
    program = (
        "import sys; import ansible.module_utils; "
        "ansible.module_utils.__path__.append(sys.argv[2] + '/plugins/module_utils'); "
        "from ansible.module_utils.bedplate import model_fetcher; sys.exit(model_fetcher.main(sys.argv[1]))"
    )
    one = fetcher(tmp_path, source, origin(hub))
    (one.place / "job.json").write_text(json.dumps(one.job))
    with subprocess.Popen(
        [sys.executable, "-c", program, str(one.place), str(ROOT)], start_new_session=True
    ) as process:
        for _ in range(1200):
            if aria2.fetched_bytes(one.folder / "model.safetensors") > BIG // 2:
                break
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
    kept = aria2.fetched_bytes(one.folder / "model.safetensors")
    assert BIG // 2 < kept < BIG and not one.dest.exists()
    hub.meter.rate = hub.meter.hold_after = 0
    before = hub.meter.sent[WEIGHTS]
    assert main(str(one.place)) == 0
    assert is_whole(one, source)
    result = json.loads((one.place / "result.json").read_text())
    assert result["fetched"] <= BIG - kept + 10, "what aria2 had noted is not fetched again"
    assert hub.meter.sent[WEIGHTS] - before < BIG
    assert not (one.place / "job.json").exists(), "its tokens are gone with it"


def test_a_damaged_model_gets_its_damaged_file_alone(hub: Hub, tmp_path: Path, source: Path) -> None:
    fetcher(tmp_path, source, origin(hub)).run()
    one = fetcher(tmp_path, source, origin(hub))
    target = one.dest / "sub" / "words.txt"
    target.chmod(0o644)
    target.write_text("a b d")
    hub.served.clear()
    one.run()
    assert (one.dest / "sub" / "words.txt").read_text() == "a b c"
    assert hub.served == ["acme/tiny/sub/words.txt"]


def test_an_archive_gives_what_the_manifest_names_and_nothing_else(tmp_path: Path, source: Path) -> None:
    served = tmp_path / "served"
    served.mkdir()
    packed = served / "tiny.tar.gz"
    with tarfile.open(packed, "w:gz", compresslevel=1) as archive:
        archive.add(source, "tiny-1.0")
        archive.add(__file__, "tiny-1.0/evil.py")
    about = {
        "size": packed.stat().st_size,
        "sha256": hashlib.sha256(packed.read_bytes()).hexdigest(),
        "folder": "tiny-1.0/",
    }
    with Hub({"acme/files": Repository(served)}) as hub:
        address = f"{hub.url}/files/acme/files/tiny.tar.gz"
        one = fetcher(tmp_path, source, {"kind": "archive", "name": "archive", "url": address, **about})
        one.run()
    assert is_whole(one, source)
    assert not (one.dest / "evil.py").exists() and not (one.dest / ".archive").exists()


def test_a_folder_of_the_server_is_copied_and_proven(tmp_path: Path, source: Path) -> None:
    one = fetcher(tmp_path, source, {"kind": "folder", "name": "nfs", "path": str(source)})
    one.run()
    assert is_whole(one, source)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small file system")
def test_a_disk_that_is_full_stops_it_and_breaks_nothing(hub: Hub, tmp_path: Path, source: Path) -> None:
    (tmp_path / "models").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", str(tmp_path / "models")], check=True)
    try:
        with pytest.raises(Stopped, match=r"BP512 .*GB free"):
            fetcher(tmp_path, source, origin(hub)).run()
        assert hub.served == [], "refused before the first byte"
        # Room enough at first; the reserved file survives a disk that fills up meanwhile.
        subprocess.run(["mount", "-o", "remount,size=30m", str(tmp_path / "models")], check=True)
        one = fetcher(tmp_path, source, origin(hub))
        filler = tmp_path / "models" / "filler"

        def fill_up(path: str, proven: Any = one.prove) -> None:
            with filler.open("wb") as stream, pytest.raises(OSError):
                while True:
                    stream.write(b"x" * 4096)
                    stream.flush()

        fetch = aria2.fetch
        monkey = pytest.MonkeyPatch()
        monkey.setattr(aria2, "fetch", lambda *given: (fetch(*given), fill_up(""))[0])
        (one.place / "job.json").write_text(json.dumps(one.job))
        main(str(one.place))
        monkey.undo()
        assert json.loads((one.place / "result.json").read_text())["problem"].startswith("BP512")
        assert not one.dest.exists()
        filler.unlink()
        served = len(hub.served)
        again = fetcher(tmp_path, source, origin(hub))
        again.run()
        assert is_whole(again, source) and len(hub.served) == served, "nothing is fetched again"
    finally:
        subprocess.run(["umount", "-l", str(tmp_path / "models")], check=True)
