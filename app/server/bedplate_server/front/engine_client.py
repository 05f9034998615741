"""The front's side of an engine: start it, talk to it, notice its end, start it again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Protocol

import structlog

from .. import protocol
from ..errors import ApiError, Refusal, engine_failed, form_refused, unavailable
from ..protocol import Cancel, Embed, Generate, Load, Logprobs, Ready, Refused, Step, Steps
from .metrics import Meter

log = structlog.get_logger(__name__)

_LONGEST_PAUSE = 30.0
# What an engine's libraries read when they start, where the environment does not say it already.
_LIBRARIES = {
    # oneDNN and PyTorch's bridge to it keep 0.3 MB each for every product and number of rows, else for 1,024 of them;
    # one that is needed again takes 0.2 ms to make.
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "64",
    "LRU_CACHE_CAPACITY": "64",
}
_PACKAGE_ROOT = Path(__file__).resolve().parents[2]
_FIX = "read the log lines above; the kernel's out-of-memory killer is seen with `journalctl -k`."


class Job(Protocol):
    """Who waits for an engine's results under one id."""

    def admitted(self, cached: int) -> None: ...
    def prompt(self, logprobs: list[Logprobs]) -> None: ...
    def token(self, token: int, finish: str | None, logprobs: Logprobs | None) -> None: ...
    def vectors(self, dimensions: int, data: bytes) -> None: ...
    def failed(self, error: ApiError) -> None: ...


class EngineClient:
    """One engine process at a time, replaced when it dies; its jobs then fail, later ones wait for the next.

    `last_pass` is when the device last finished a pass (monotonic seconds), `proven` whether this engine has
    generated a token or a vector yet.
    """

    def __init__(self, load: Load, refused: Callable[[Refusal], None], meter: Meter, ids: Iterator[int]) -> None:
        self._load = load
        self._refused = refused
        self._meter = meter
        meter.pid = lambda: self.pid
        self._jobs: dict[int, Job] = {}
        # Tokens that have come and their jobs are to see a little later.
        self._unseen: dict[int, list[tuple[int, str | None, Logprobs | None]]] = {}
        self._ids = ids
        self._writer: asyncio.StreamWriter | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._settled = asyncio.Event()
        self._trouble: str | None = None
        self._retired: ApiError | None = None
        self.info: Ready | None = None
        self.last_pass = 0.0
        self.proven = False
        # When work came to an idle engine, and since when none has worked, however often one was started.
        self._busy_since = 0.0
        self._loading_since = time.monotonic()

    @property
    def jobs(self) -> int:
        """How many sequences and embedding jobs run or wait."""
        return len(self._jobs)

    @property
    def retired(self) -> bool:
        return self._retired is not None

    @property
    def loading_seconds(self) -> float | None:
        """How long there has been no engine with the model loaded, after one that worked; None while there is."""
        return time.monotonic() - self._loading_since if self.info is None else None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def start(self) -> None:
        self._loading_since = time.monotonic()
        self._supervisor = asyncio.create_task(self._supervise())

    async def stop(self) -> None:
        if self._supervisor is not None:
            self._supervisor.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._supervisor
        self._end_all()

    def retire(self, error: ApiError) -> None:
        """Take nothing on any more, and end with `error` all that runs or waits."""
        self._retired = error
        self._settled.set()
        self._fail_jobs(error)

    async def ready(self, patience: float | None) -> Ready:
        """The model's facts, once the engine has started; ApiError 503 when it is in trouble or too slow."""
        try:
            async with asyncio.timeout(patience):
                while self._retired is None:
                    if self.info is not None:
                        return self.info
                    if self._trouble is not None:
                        raise unavailable(f"The model is not available: {self._trouble}", "model_unavailable", 10)
                    await self._settled.wait()
                raise self._retired
        except TimeoutError:
            raise unavailable("The model is still being loaded.", "model_loading", 10) from None

    def generate(
        self, job: Job, prompt: list[int], max_tokens: int, sampling: protocol.Sampling, adapter: str | None = None
    ) -> int:
        return self._submit(job, Generate(next(self._ids), prompt, max_tokens, sampling, adapter), booked=True)

    def embed(self, job: Job, inputs: list[list[int]], boundaries: list[int] | None = None) -> int:
        return self._submit(job, Embed(next(self._ids), inputs, boundaries), booked=True)

    def prove(self, job: Job) -> int:
        """The smallest piece of work there is, which no metric books."""
        if self._load.generates:
            return self._submit(job, Generate(next(self._ids), [0], 1, protocol.Sampling()), booked=False)
        return self._submit(job, Embed(next(self._ids), [[0]]), booked=False)

    def cancel(self, job_id: int, reason: str = "abort") -> None:
        """Forget the job and tell the engine; nothing happens if it has ended. `reason` is what metrics call its end."""
        self._meter.ended(job_id, reason)
        self._unseen.pop(job_id, None)
        if self._jobs.pop(job_id, None) is not None and self._writer is not None:
            self._writer.write(protocol.frame(Cancel(job_id)))

    def _submit(self, job: Job, message: Generate | Embed, *, booked: bool) -> int:
        if self._retired is not None:
            raise self._retired
        if self._writer is None or self.info is None:
            raise engine_failed("The inference engine ended unexpectedly; it is being restarted.")
        if not self._jobs:
            self._busy_since = time.monotonic()
        if booked:
            self._meter.submitted(message)
        self._jobs[message.id] = job
        self._writer.write(protocol.frame(message))
        return message.id

    def end_if_stuck(self, seconds: float) -> None:
        """Kill an engine that has had work but finished no pass for so long; another takes its place.

        The first pass may take five times as long: a GPU compiles and captures in it.
        """
        idle = time.monotonic() - max(self.last_pass, self._busy_since)
        patience = seconds if self.proven else 5 * seconds
        if self.info is not None and self._jobs and idle > patience and self._process is not None:
            log.error(
                "engine stuck", model=self._load.name, engine=self._load.replica, pid=self.pid, seconds=round(idle, 1)
            )
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    async def _supervise(self) -> None:
        """Run engines for ever. Only the first may refuse the service's start; later ones are tried again."""
        failures, ever_served = 0, False
        while True:
            try:
                refusal = await self._run_one()
            except OSError as error:
                refusal = Refusal("BP658", f"{self._load.path}: no engine process could be started: {error}.", _FIX)
            ever_served = ever_served or self.info is not None
            # An engine that loads and dies over its first token is no better than one that does not load.
            failures = 0 if self.proven else failures + 1
            if self.proven:
                self._loading_since = time.monotonic()
            self._end_all()
            if not ever_served:
                self._refused(refusal or Refusal("BP658", f"{self._load.path}: its engine died while loading.", _FIX))
                return
            if failures:
                self._trouble = str(refusal) if refusal else "its engine ended before its first token"
                self._settled.set()
            await asyncio.sleep(min(2.0 ** min(failures, 10) - 1, _LONGEST_PAUSE))

    async def _run_one(self) -> Refusal | None:
        """Start an engine and listen to it until it ends; returns why it refused the model, if it did."""
        ours, theirs = socket.socketpair()
        environment = {**_LIBRARIES, **os.environ, "PYTHONPATH": str(_PACKAGE_ROOT)}
        environment.pop("NOTIFY_SOCKET", None)
        with theirs:
            self._process = process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "bedplate_server.engine", str(theirs.fileno())),
                pass_fds=[theirs.fileno()],
                env=environment,
                stdin=asyncio.subprocess.DEVNULL,
            )
        reader, writer = await asyncio.open_unix_connection(sock=ours)
        try:
            writer.write(protocol.frame(self._load))
            self._writer = writer
            return await self._listen(reader)
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        finally:
            self._writer = None
            writer.close()
            # It ends by itself when the socket closes; one stuck in a device call does not.
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            status = await process.wait()
            log.info("engine ended", model=self._load.name, engine=self._load.replica, pid=process.pid, status=status)

    async def _listen(self, reader: asyncio.StreamReader) -> Refusal:
        while True:
            message = await protocol.read_frame(reader)
            match message:
                case Steps(steps, shown):
                    for step in steps:
                        self._dispatch(step)
                    self._show(self._unseen if shown is None else shown)
                case Ready():
                    self._adopt(message)
                case Refused(code, what, fix):
                    return Refusal(code, what, fix)

    def _adopt(self, ready: Ready) -> None:
        self.info, self._trouble, self.proven = ready, None, False
        self._settled.set()
        self._meter.started()
        facts = {name: getattr(ready, name) for name in ready.__slots__}
        log.info("engine ready", model=self._load.name, engine=self._load.replica, pid=self.pid, **facts)

    def _dispatch(self, step: Step) -> None:
        self.last_pass = step.ended
        self._meter.stepped(step)
        self.proven = self.proven or bool(step.tokens or step.vectors)
        for job_id, cached in step.admitted:
            if (job := self._jobs.get(job_id)) is not None:
                job.admitted(cached)
        for job_id, read in step.prompts:
            if (job := self._jobs.get(job_id)) is not None:
                job.prompt(read)
        for job_id, token, finish, logprobs in step.tokens:
            self._unseen.setdefault(job_id, []).append((token, finish, logprobs))
        for job_id, dimensions, data in step.vectors:
            if (job := self._jobs.pop(job_id, None)) is not None:
                job.vectors(dimensions, data)
        errors = [(job_id, engine_failed(cause)) for job_id, cause in step.failures]
        errors += [(job_id, form_refused(cause)) for job_id, cause in step.unfit]
        self._show(job_id for job_id, _ in errors)
        for job_id, error in errors:
            if (job := self._jobs.pop(job_id, None)) is not None:
                job.failed(error)

    def _show(self, job_ids: Iterable[int]) -> None:
        """Give jobs the tokens that have come for them."""
        for job_id in list(job_ids):
            for token, finish, logprobs in self._unseen.pop(job_id, ()):
                job = self._jobs.get(job_id) if finish is None else self._jobs.pop(job_id, None)
                if job is not None:
                    job.token(token, finish, logprobs)

    def _end_all(self) -> None:
        self.info, self.proven = None, False
        if self._retired is None:
            self._settled.clear()
        if self._jobs:
            log.error(
                "requests lost with their engine",
                model=self._load.name,
                engine=self._load.replica,
                jobs=len(self._jobs),
            )
        self._fail_jobs(engine_failed("The inference engine ended unexpectedly; please try again."))

    def _fail_jobs(self, error: ApiError) -> None:
        self._show(self._unseen)
        jobs, self._jobs = self._jobs, {}
        for job_id, job in jobs.items():
            self._meter.ended(job_id, "error")
            job.failed(error)
