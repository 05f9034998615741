"""What a request waits for comes whole and in order, whatever ends it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from bedplate_server.errors import engine_failed
from bedplate_server.front.detokenize import TextStream
from bedplate_server.front.generation import Generation
from bedplate_server.protocol import Sampling

from .support.tiny_models import tokenizer


class Engine:
    """Stands in for the engines: keeps the jobs."""

    def __init__(self) -> None:
        self.jobs: list[Any] = []

    def generate(self, job: Any, *_: Any) -> int:
        self.jobs.append(job)
        return len(self.jobs)

    def cancel(self, *_: Any) -> None: ...


def test_what_came_before_an_error_is_given_out_before_it() -> None:
    core = tokenizer().backend_tokenizer
    tokens = core.encode("before it", add_special_tokens=False).ids

    async def work() -> None:
        engine: Any = Engine()
        made = Generation(engine, [([1], 9)], Sampling(), 2, None, lambda: TextStream(core, []), lambda: None)
        for token in tokens:
            engine.jobs[0].token(token, None, None)
        for job in engine.jobs:
            job.failed(engine_failed("It ended."))
        assert [piece.text for piece in await made.pieces()] == ["before it"]
        with pytest.raises(Exception, match="It ended"):
            await made.pieces()

    asyncio.run(work())
