"""Users who go on asking while something happens to a server: chats at a steady rate, each its own, and what came of them."""

from __future__ import annotations

import asyncio
import ssl
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import openai

from ops.service import Service, trust


@dataclass
class Load:
    """`rate` chats a second through Nginx and TLS, from entering it until leaving it (ten minutes at most).

    The client is OpenAI's own without retries: what fails once counts. Its pool keeps connections alive between chats.
    `context` replaces the pinned certificate where that changes meanwhile.
    """

    service: Service
    rate: int = 10
    context: ssl.SSLContext | None = None
    seconds: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Load:
        self._thread = threading.Thread(target=lambda: asyncio.run(self._ask()))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    async def _ask(self) -> None:
        verify = self.context or trust(self.service.certificate)
        client = openai.AsyncOpenAI(
            base_url=f"{self.service.base_url}/v1",
            api_key=self.service.key,
            max_retries=0,
            timeout=120,
            http_client=openai.DefaultAsyncHttpxClient(verify=verify),
        )
        async with client, asyncio.TaskGroup() as group:
            for _ in range(600 * self.rate):
                if self._over.is_set():
                    break
                group.create_task(self._one(client))
                await asyncio.sleep(1 / self.rate)

    async def _one(self, client: openai.AsyncOpenAI) -> None:
        began = time.monotonic()
        try:
            answer: Any = await client.chat.completions.create(
                model="tutor", messages=[{"role": "user", "content": "What is Bedplate?"}], max_tokens=8
            )
        except openai.OpenAIError as error:
            why = f" ({error.__cause__!r})" if error.__cause__ else ""
            self.failures.append(f"{type(error).__name__}: {error}{why}"[:300])
            return
        self.seconds.append(time.monotonic() - began)
        if not answer.choices[0].finish_reason:
            self.failures.append(f"an answer without an end: {answer}")

    def __str__(self) -> str:
        return f"{len(self.seconds)} answers, slowest {max(self.seconds, default=0):.1f} s, {len(self.failures)} failed"
