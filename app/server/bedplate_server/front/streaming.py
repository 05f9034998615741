"""A generation as server-sent events, whatever its chunks look like."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import structlog

from ..errors import ApiError, internal_error
from .frames import DONE, KEEPALIVE, ChatFrames, CompletionFrames, error_frame
from .generation import Generation, Piece

log = structlog.get_logger(__name__)


async def events(
    generation: Generation, render: Callable[[Piece], bytes], frames: ChatFrames | CompletionFrames, silence: float
) -> AsyncIterator[bytes]:
    """`render` of each piece, then the usage if asked for; several pieces that came together go out as one write.

    A comment goes out after `silence` seconds without anything to send, tokens without text included, so that no
    proxy cuts the connection.
    """
    clock = asyncio.get_running_loop().time
    sent = clock()
    try:
        while not generation.finished:
            pieces = await generation.pieces(patience=max(sent + silence - clock(), 0))
            out = b"".join(map(render, pieces))
            if not out and (not pieces or clock() - sent >= silence):
                out = KEEPALIVE
            if out:
                yield out
                sent = clock()
        yield frames.usage(generation.usage) + DONE
    except ApiError as error:
        yield error_frame(error) + DONE
    except Exception:
        log.exception("stream failed")
        yield error_frame(internal_error()) + DONE
