"""The engine process: `python -m bedplate_server.engine FD`, started by the front with a socket pair.

It serves until that socket closes, and ignores signals meant for the service as a whole: the front decides
when running answers end.
"""

from __future__ import annotations

import contextlib
import gc
import os
import queue
import signal
import socket
import sys
import threading
import time
from typing import TYPE_CHECKING, BinaryIO

import structlog

from .. import logs, pages, protocol
from ..errors import Refusal
from ..protocol import Cancel, Embed, Generate, Load, Refused

if TYPE_CHECKING:
    from .grammar import Grammars
    from .scheduler import Scheduler

log = structlog.get_logger(__name__)

_INBOX: queue.SimpleQueue[protocol.ToEngine] = queue.SimpleQueue()
# How often freed memory goes back to the system while there is work, and after how long without any. It takes a
# millisecond or two, and some ten more until what is needed again has come back.
_TIDY_SECONDS, _QUIET_SECONDS = 10.0, 1.0
# One, once the model is loaded.
_GRAMMARS: list[Grammars] = []


def _read_inbox(stream: BinaryIO) -> None:
    """Fill the inbox, grammars compiled; end the process, busy or not, when the front has gone."""
    try:
        while True:
            message = protocol.read_frame_blocking(stream)
            if isinstance(message, Generate) and message.sampling.grammar is not None:
                with contextlib.suppress(ValueError):  # the scheduler fails the sequence with it
                    _GRAMMARS[0].compile(message.sampling.grammar)
            _INBOX.put(message)
    except (EOFError, OSError):
        os._exit(0)


def main() -> int:
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    channel = socket.socket(fileno=int(sys.argv[1]))
    threading.Thread(target=_read_inbox, args=(channel.makefile("rb"),), daemon=True).start()
    load = _INBOX.get()
    assert isinstance(load, Load)
    logs.configure(process="engine", model=load.name, engine=load.replica)
    os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_VERBOSITY="error", TOKENIZERS_PARALLELISM="false")
    try:
        # Imported here: the thread above must be listening before torch takes its seconds to load.
        from .grammar import Grammars
        from .outbox import Outbox
        from .runner import Runner
        from .scheduler import Scheduler

        runner = Runner(load)
    except Refusal as refusal:
        channel.sendall(protocol.frame(Refused(refusal.code, refusal.what, refusal.fix)))
        return 1
    _GRAMMARS.append(Grammars(load.path, runner.facts.vocabulary, runner.stops))
    # Some 350,000 objects of the libraries stay for good; looking through them for garbage held an answer up for 0.2 s.
    gc.collect()
    gc.freeze()
    channel.sendall(protocol.frame(runner.facts))
    scheduler = Scheduler(runner, _GRAMMARS[0])
    outbox = Outbox(channel, shared=runner.device.type == "cpu")
    tidying = _Tidying()
    try:
        while True:
            if scheduler.idle:
                outbox.send()
            _take_messages(scheduler, tidying)
            if not scheduler.idle:
                outbox.put(scheduler.step())
            tidying.after_work()
    except Exception:
        # The device's state is not to be trusted after an error in a batch; the front starts a new engine.
        log.exception("engine failed")
        return 1


class _Tidying:
    """Gives freed memory back to the system, from time to time while there is work and once when there is none."""

    def __init__(self) -> None:
        self._done = time.monotonic()

    def after_work(self) -> None:
        if time.monotonic() - self._done > _TIDY_SECONDS:
            pages.give_back()
            self._done = time.monotonic()

    def next_message(self) -> protocol.ToEngine:
        """The next message. What comes after a while without any finds everything tidy and is not held up by it."""
        with contextlib.suppress(queue.Empty):
            return _INBOX.get(timeout=_QUIET_SECONDS)
        pages.give_back()
        message = _INBOX.get()
        self._done = time.monotonic()
        return message


def _take_messages(scheduler: Scheduler, tidying: _Tidying) -> None:
    """Hand over what has arrived, waiting if there is nothing else to do."""
    while scheduler.idle or not _INBOX.empty():
        match tidying.next_message():
            case Generate() | Embed() as request:
                scheduler.add(request)
            case Cancel(job_id):
                scheduler.cancel(job_id)


if __name__ == "__main__":
    sys.exit(main())
