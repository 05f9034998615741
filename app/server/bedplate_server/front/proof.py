"""Whether an engine makes tokens now: it is asked for one when its last pass is too long ago."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import ApiError
from ..protocol import Logprobs
from .engine_client import EngineClient


class _Await:
    """A job whose result one coroutine awaits: the vectors of an embedding, or a proof's single token."""

    def __init__(self) -> None:
        self.done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def admitted(self, cached: int) -> None: ...
    def prompt(self, logprobs: list[Logprobs]) -> None: ...

    def token(self, token: int, finish: str | None, logprobs: Logprobs | None) -> None:
        self._settle(token)

    def vectors(self, dimensions: int, data: bytes) -> None:
        self._settle(np.frombuffer(data, dtype="<f4").reshape(-1, dimensions))

    def failed(self, error: ApiError) -> None:
        if not self.done.done():
            self.done.set_exception(error)

    def _settle(self, result: Any) -> None:
        if not self.done.done():
            self.done.set_result(result)


async def result_of(cancel: Callable[[int], None], submit: Callable[..., int], *work: Any) -> Any:
    """What an engine makes of a job that `submit` hands to it with `work`; `cancel` when nobody waits for it any more."""
    job = _Await()
    job_id = submit(job, *work)
    try:
        return await job.done
    finally:
        cancel(job_id)


class Proof:
    """Of one engine."""

    def __init__(self, engine: EngineClient) -> None:
        self._engine = engine
        self._asked: asyncio.Task[Any] | None = None

    @property
    def under_way(self) -> bool:
        """Whether the engine has a proof's own job."""
        return self._asked is not None and not self._asked.done()

    async def ask(self, max_age: float, patience: float) -> str | None:
        """Why the engine is not ready; None if it has made a token (or vector), and its last pass is `max_age` s old.

        Makes one if the last pass is older, past the front's queue: a full queue is not unreadiness. All who ask
        meanwhile wait for the same one.
        """
        if self._lively(max_age):
            return None
        if self._engine.info is None:
            return "is not loaded"
        if self._asked is None or self._asked.done():
            self._asked = asyncio.create_task(result_of(self._engine.cancel, self._engine.prove))
            # Its failure shows below; asyncio is not to report it as one that nobody looked at.
            self._asked.add_done_callback(lambda proof: proof.cancelled() or proof.exception())
        await asyncio.wait({asked := self._asked}, timeout=patience)
        if self._lively(max_age):
            return None
        return "failed to generate" if asked.done() else f"generated nothing for {patience:.0f} s"

    def _lively(self, max_age: float) -> bool:
        return self._engine.proven and time.monotonic() - self._engine.last_pass <= max_age
