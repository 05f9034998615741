"""Serving over one socket until told to stop: uvicorn, with a bounded drain and exit status 0."""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
from types import FrameType

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from .. import pages
from ..config import Config
from ..errors import Refusal
from .app import Service
from .connection import Connection
from .middleware import OPEN_PATHS
from .sockets import listening_socket

# Longer than any proxy's own, or a request sent on a connection just closed here would be lost.
_KEEP_ALIVE_SECONDS = 75
# After the drain's bound the answers end with an error; uvicorn cuts what still does not.
_LAST_WORDS_SECONDS = 5
# A connection without a request is closed while draining only when it has been so for as long: a request may be on
# its way, or have come and not been read yet.
_IDLE_SECONDS = 0.5
_TURN_SECONDS = 0.05
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class _Server(uvicorn.Server):
    """uvicorn's server, telling the service of the first signal, and ending without a reset for anybody."""

    service: Service
    drain_seconds: float
    loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self.loop = asyncio.get_running_loop()
        await super().startup(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        if self.loop is not None and self.loop.is_running():
            self.loop.call_soon_threadsafe(self.service.drain)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close the listeners, answer what comes on connections that are there, then end as uvicorn does.

        uvicorn alone would at once close connections whose request it has not read yet.
        """
        for server in self.servers:
            server.close()
        for listener in sockets or []:
            listener.close()
        try:
            async with asyncio.timeout(max(self.drain_seconds, 2 * _IDLE_SECONDS)):
                await self._finish()
        except TimeoutError:
            pass
        await super().shutdown(sockets)

    async def _finish(self) -> None:
        """Return when nothing is under way. Probes' connections stay open meanwhile, to be told that it ends."""
        idle: dict[HttpToolsProtocol, tuple[object, float]] = {}
        busy = True
        while busy and not self.force_exit:
            # First, for connections accepted in the turn that closed the listeners.
            await asyncio.sleep(_TURN_SECONDS)
            now, busy = asyncio.get_running_loop().time(), bool(self.server_state.tasks)
            for connection in list(self.server_state.connections):
                assert isinstance(connection, HttpToolsProtocol)
                request = connection.cycle
                if request is not None and not request.response_complete:
                    busy = True
                elif request is None or request.scope["path"] not in OPEN_PATHS:
                    busy = True
                    last, since = idle.get(connection, (None, now))
                    idle[connection] = (request, since if last is request else now)
                    if now - idle[connection][1] >= _IDLE_SECONDS:
                        connection.shutdown()


def serve(config: Config) -> None:
    """Serve until SIGTERM, SIGINT or SIGHUP and return. Raises Refusal when the service cannot start."""
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
            http=Connection,
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            backlog=4096,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=_LAST_WORDS_SECONDS,
        )
    )
    server.service, server.drain_seconds = service, config.limits.drain_seconds
    # uvicorn raises the signal again for the handler that was there before, by default the one that ends the
    # process with that signal; with its own in that place the process ends by returning.
    for number in _SIGNALS:
        # nohup has SIGHUP ignored.
        if signal.getsignal(number) is not signal.SIG_IGN:
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
