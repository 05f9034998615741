"""Fetch 2 GB from a hub on this machine: a transfer as a server does it, proven and on the disk, against `hf download`, which proves nothing.

    .venv/bin/python -m bench.download            writes bench/results/download.json

Both in the same run, one after the other, several times; the hub is a process of its own (tests/fixtures/hub) without a limit.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from ops.paths import ROOT
from ops.service_env import service_python
from plugins.module_utils.bedplate.manifest import damaged_files, tree_manifest

RESULT = ROOT / "bench" / "results" / "download.json"
START = (
    "import sys; import ansible.module_utils; ansible.module_utils.__path__.append(sys.argv[1] + '/plugins/module_utils'); "
    "from ansible.module_utils.bedplate import model_fetcher; sys.exit(model_fetcher.main(sys.argv[2]))"
)


def make_model(folder: Path, size: int, files: int) -> None:
    """Noise, so that nothing can be left out of it."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    for number in range(files):
        with (folder / f"model-{number + 1:05d}-of-{files:05d}.safetensors").open("wb") as stream:
            for _ in range(size // files >> 20):
                stream.write(os.urandom(1 << 20))


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def timed(command: list[str], **more: Any) -> float:
    """Seconds of a command that has to succeed."""
    began = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **more)
    return time.monotonic() - began


def ours(work: Path, url: str, manifest: dict[str, Any]) -> float:
    """The transfer's own program: fetched, every byte proven, flushed to the disk, published."""
    place, dest = work / "place", work / "models" / "acme--big@0123456789ab"
    for folder in (place, dest.parent):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    origin = {"kind": "files", "name": "the hub", "url": f"{url}/acme/big/resolve/main/{{path}}"}
    job = {"name": "big", "dest": str(dest), "manifest": manifest, "origins": [origin]}
    (place / "job.json").write_text(json.dumps(job))
    seconds = timed([sys.executable, "-c", START, str(ROOT), str(place)])
    told = json.loads((place / "result.json").read_text())
    if "problem" in told or damaged_files(dest, manifest["files"]):
        raise SystemExit(f"the transfer failed: {told}")
    return seconds


def theirs(work: Path, url: str, manifest: dict[str, Any], hf: Path) -> float:
    """`hf download` into a folder."""
    folder = work / "hf"
    shutil.rmtree(folder, ignore_errors=True)
    environment = {**os.environ, "HF_ENDPOINT": url, "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HOME": str(work / "hf-home")}
    seconds = timed([str(hf), "download", "acme/big", "--local-dir", str(folder)], env=environment)
    if damaged_files(folder, manifest["files"]):
        raise SystemExit("hf download brought other bytes")
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("--files", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    hf = service_python(Console(stderr=True), tests=True).parent / "hf"
    with tempfile.TemporaryDirectory(dir=ROOT / ".bedplate") as folder:
        work, port = Path(folder), free_port()
        make_model(work / "source", int(options.gigabytes * 1e9), options.files)
        manifest = tree_manifest(work / "source")
        url = f"http://127.0.0.1:{port}"
        serve = [sys.executable, "-m", "tests.fixtures.hub.server", "--port", str(port), f"acme/big={work / 'source'}"]
        with subprocess.Popen(serve, cwd=ROOT) as hub:
            try:
                # Its first listing hashes everything; that is not what is measured.
                subprocess.run(["curl", "--silent", "--retry", "20", "--retry-connrefused", "--retry-delay", "1", "-o", "/dev/null",
                                f"{url}/api/models/acme/big"], check=True)  # fmt: skip
                rounds = [
                    {"bedplate": round(ours(work, url, manifest), 2), "hf": round(theirs(work, url, manifest, hf), 2)}
                    for _ in range(options.rounds)
                ]
            finally:
                hub.terminate()
    ask = [str(hf.with_name("python")), "-c", "import huggingface_hub; print(huggingface_hub.__version__)"]
    version = subprocess.run(ask, capture_output=True, text=True, check=True).stdout.strip()
    medians = {name: statistics.median(one[name] for one in rounds) for name in ("bedplate", "hf")}
    result = {
        "command": " ".join([".venv/bin/python -m bench.download", *sys.argv[1:]]),
        "machine": f"{os.cpu_count()} cores, {platform.platform()}",
        "huggingface_hub": version,
        "bytes": manifest["bytes"],
        "files": options.files,
        "seconds": rounds,
        "median_seconds": medians,
        "megabytes_a_second": {name: round(manifest["bytes"] / 1e6 / seconds) for name, seconds in medians.items()},
        "hf_over_bedplate": round(medians["hf"] / medians["bedplate"], 2),
        "note": "bedplate's seconds hold the proof by sha256 and the flush to the disk; hf's hold neither",
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
