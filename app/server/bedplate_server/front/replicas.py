"""The engines of one model, one per device: each request goes to the one with the least to do.

An engine that ends takes its own requests along; the others go on, and new requests go to them until it is back.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable
from dataclasses import replace

from ..errors import ApiError, Refusal, engine_failed
from ..protocol import Load, Ready, Sampling
from .engine_client import EngineClient, Job
from .metrics import Meter
from .proof import Proof


class Replicas:
    """What a model's service sees of its engines."""

    def __init__(self, loads: list[Load], refused: Callable[[Refusal], None], meters: list[Meter]) -> None:
        ids = itertools.count(1)  # shared, so that an id is one engine's job alone
        self._engines = [EngineClient(load, refused, meter, ids) for load, meter in zip(loads, meters, strict=True)]
        self._proofs = [Proof(engine) for engine in self._engines]

    @property
    def info(self) -> Ready | None:
        """What the loaded engines can take together, and what fits each of them; None while there are none."""
        known = [engine.info for engine in self._engines if engine.info is not None]
        if len(known) < 2:
            return known[0] if known else None
        return replace(
            known[0],
            context_length=min(one.context_length for one in known),
            slots=sum(one.slots for one in known),
            kv_bytes=sum(one.kv_bytes for one in known),
            kv_tokens=sum(one.kv_tokens for one in known),
            weight_bytes=sum(one.weight_bytes for one in known),
        )

    @property
    def loading_seconds(self) -> float | None:
        """How long there has been no loaded engine; None while there is one."""
        seconds = [engine.loading_seconds for engine in self._engines]
        return None if None in seconds else min(second for second in seconds if second is not None)

    def start(self) -> None:
        for engine in self._engines:
            engine.start()

    async def stop(self) -> None:
        await asyncio.gather(*(engine.stop() for engine in self._engines))

    def retire(self, error: ApiError) -> None:
        """Take nothing on any more, and end with `error` all that runs or waits."""
        for engine in self._engines:
            engine.retire(error)

    async def ready(self, patience: float | None) -> Ready:
        """The model's facts, once an engine has started; ApiError 503 when all are in trouble or too slow."""
        if (known := self.info) is not None and not self._engines[0].retired:
            return known
        waiting = {asyncio.ensure_future(engine.ready(patience)) for engine in self._engines}
        try:
            errors: list[BaseException] = []
            while waiting:
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                failed = [error for one in done if (error := one.exception()) is not None]
                if len(failed) < len(done) and (known := self.info) is not None:
                    return known
                errors += failed
            raise errors[0] if errors else engine_failed("The inference engine ended; it is being restarted.")
        finally:
            for one in waiting:
                one.cancel()

    def generate(
        self, job: Job, prompt: list[int], max_tokens: int, sampling: Sampling, adapter: str | None = None
    ) -> int:
        return self._idlest(len(prompt) + max_tokens).generate(job, prompt, max_tokens, sampling, adapter)

    def embed(self, job: Job, inputs: list[list[int]], boundaries: list[int] | None = None) -> int:
        return self._idlest(max(map(len, inputs))).embed(job, inputs, boundaries)

    def cancel(self, job_id: int, reason: str = "abort") -> None:
        """Forget the job, whosever it is; nothing happens if it has ended."""
        for engine in self._engines:
            engine.cancel(job_id, reason)

    def end_if_stuck(self, seconds: float) -> None:
        for engine in self._engines:
            engine.end_if_stuck(seconds)

    async def first_tokens(self, patience: float) -> str | None:
        """None once every engine has generated a token, else what keeps the first that has not."""
        for engine, proof in zip(self._engines, self._proofs, strict=True):
            with contextlib.suppress(ApiError):
                await engine.ready(None)
            if (problem := await proof.ask(float("inf"), patience)) is not None:
                return problem
        return None

    async def prove(self, max_age: float, patience: float) -> str | None:
        """None if one of the engines makes tokens, for which it is asked if need be (see Proof.ask); else why not."""
        problems = await asyncio.gather(*(proof.ask(max_age, patience) for proof in self._proofs))
        return None if None in problems else problems[0]

    def _idlest(self, tokens: int) -> EngineClient:
        """The loaded engine with the fewest jobs of clients, among those whose memory holds `tokens` of one sequence."""
        fit = [
            (engine.jobs - proof.under_way, number)
            for number, (engine, proof) in enumerate(zip(self._engines, self._proofs, strict=True))
            if engine.info and engine.info.context_length >= tokens
        ]
        if not fit:
            raise engine_failed("The inference engine ended unexpectedly; it is being restarted.")
        return self._engines[min(fit)[1]]
