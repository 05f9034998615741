"""Serving over one socket until told to stop: uvicorn, with a bounded drain and exit status 0."""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
from types import FrameType

import uvicorn

from .. import pages
from ..config import Config
from ..errors import Refusal
from .app import Service
from .sockets import listening_socket

# Longer than any proxy's own, or a request sent on a connection just closed here would be lost.
_KEEP_ALIVE_SECONDS = 75
# After the drain's bound the answers end with an error; uvicorn cuts what still does not.
_LAST_WORDS_SECONDS = 5


class _Server(uvicorn.Server):
    """uvicorn's server, telling the service of the first signal."""

    service: Service
    loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self.loop = asyncio.get_running_loop()
        await super().startup(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        if self.loop is not None and self.loop.is_running():
            self.loop.call_soon_threadsafe(self.service.drain)


def serve(config: Config) -> None:
    """Serve until SIGTERM or SIGINT and return. Raises Refusal when the service cannot start."""
    refusals: list[Refusal] = []

    def refused(refusal: Refusal) -> None:
        refusals.append(refusal)
        service.abort()
        server.should_exit = True

    service = Service(config, refused)
    listener = listening_socket(config)
    server = _Server(
        uvicorn.Config(
            service.gate,
            loop="uvloop",
            http="httptools",
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            backlog=4096,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=int(config.limits.drain_seconds) + _LAST_WORDS_SECONDS,
        )
    )
    server.service = service
    # uvicorn raises the signal again for the handler that was there before, by default the one that ends the
    # process with that signal; with its own in that place the process ends by returning.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, server.handle_exit)
    # What is loaded by now stays: no collection needs to look through it.
    gc.freeze()
    pages.give_back()
    try:
        server.run(sockets=[listener])
    finally:
        if config.listen.uds is not None:
            config.listen.uds.unlink(missing_ok=True)
    if refusals:
        raise refusals[0]
