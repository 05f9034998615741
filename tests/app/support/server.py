"""The service as a real process on a Unix socket or a loopback port, and clients for it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import openai
import orjson
import yaml

SERVER_CODE = Path(__file__).resolve().parents[3] / "app" / "server"
START_SECONDS = 240.0


class ServerProcess:
    """`python -m bedplate_server` with `settings` in a file of its own under `folder`; `stop` must be called."""

    def __init__(self, folder: Path, settings: dict[str, Any], **popen: Any) -> None:
        self.folder = folder
        self.socket = folder / "service.sock"
        self.settings = {"listen": {"uds": str(self.socket)}, "threads": 1, **settings}
        (folder / "service.yml").write_text(yaml.safe_dump(self.settings), encoding="utf-8")
        self._log = (folder / "service.log").open("wb")
        environment = {**os.environ, "PYTHONPATH": str(SERVER_CODE), **popen.pop("env", {})}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bedplate_server", "--config", str(folder / "service.yml")],
            cwd=folder,
            env=environment,
            stdout=self._log,
            stderr=self._log,
            **popen,
        )

    def http(self, **options: Any) -> httpx2.Client:
        """A plain HTTP client of the service."""
        listen = self.settings["listen"]
        if "port" in listen:
            return httpx2.Client(base_url=f"http://127.0.0.1:{listen['port']}", timeout=60, **options)
        transport = httpx2.HTTPTransport(uds=listen.get("uds", str(self.socket)))
        return httpx2.Client(base_url="http://bedplate", transport=transport, timeout=60, **options)

    def openai(self, key: str = "none", **options: Any) -> openai.OpenAI:
        """The official client, without its retries, so that every error is seen."""
        http = self.http()
        return openai.OpenAI(
            base_url=f"{http.base_url}/v1".replace("//v1", "/v1"),
            api_key=key,
            http_client=http,
            max_retries=0,
            **options,
        )

    def wait_ready(self) -> ServerProcess:
        deadline = time.monotonic() + START_SECONDS
        with self.http() as http:
            while time.monotonic() < deadline:
                assert self.process.poll() is None, self.log()
                try:
                    if http.get("/health/ready").status_code == 200:
                        return self
                except httpx2.TransportError:
                    pass
                time.sleep(0.1)
        raise AssertionError(f"not ready after {START_SECONDS} s:\n{self.log()}")

    def log(self) -> str:
        return (self.folder / "service.log").read_text(encoding="utf-8", errors="replace")

    def events(self, name: str) -> list[dict[str, Any]]:
        """The log's lines about one kind of event."""
        lines = [orjson.loads(line) for line in self.log().splitlines() if line.startswith("{")]
        return [line for line in lines if line.get("event") == name]

    def engine_pids(self) -> list[int]:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [int(pid) for pid in children]

    def engine_pid(self, model: str) -> int:
        """The process that serves `model` now, or did last."""
        return int([line["pid"] for line in self.events("engine ready") if line["model"] == model][-1])

    def metric(self, name: str, model: str = "endless", **options: Any) -> float:
        """A number of /metrics, summed over the other labels of its series; `options` are the HTTP client's."""
        with self.http(**options) as http:
            return measured(http.get("/metrics").text, name, model)

    def stop(self, patience: float = 15) -> int:
        """End it, gently if it can within `patience` seconds; returns the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(patience)
        except subprocess.TimeoutExpired:
            self.process.kill()
            status = self.process.wait()
        self._log.close()
        return status


def measured(metrics: str, name: str, model: str = "endless") -> float:
    """The sum of a metric's series about one model."""
    lines = [line for line in metrics.splitlines() if line.startswith(f"{name}{{")]
    return sum(float(line.rpartition(" ")[2]) for line in lines if f'model_name="{model}"' in line)


def wait_for(condition: Callable[[], bool], seconds: float = 120) -> None:
    """Ask again until it is so; long enough for a machine that is busy with something else."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "did not happen in time"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    """Whether the process runs; one that has ended but was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
