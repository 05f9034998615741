"""What goes from the engine to the front: steps, several at a time where nobody can see the difference."""

from __future__ import annotations

import socket

from .. import protocol
from ..protocol import Step, Steps

# One frame of a screen, and how long a text that grows by pieces still grows smoothly.
_SHORTEST_SECONDS, _LONGEST_SECONDS = 1 / 60, 1 / 20
# What a piece of an answer costs on its way to the client is worth so much waiting where it is taken from the model's time.
_PIECE_SECONDS = 0.002


class Outbox:
    """Steps on their way over `channel`. Those that end within one frame leave together, unless one is pressing.

    Also then only those for whom it is pressing see it at once, the others when the frame is over. A piece costs its way
    to the client as much as many tokens: with a small model and many answers that is most of what streaming costs.
    `shared`: whoever handles tokens has the engine's own processors, so that frames last the longer the more answers run.
    """

    def __init__(self, channel: socket.socket, *, shared: bool = False) -> None:
        self._channel = channel
        self._piece_seconds = _PIECE_SECONDS if shared else 0.0
        self._steps: list[Step] = []
        # When everybody saw everything.
        self._shown = 0.0

    def put(self, step: Step) -> None:
        self._steps.append(step)
        frame = min(max(_SHORTEST_SECONDS, self._piece_seconds * len(step.tokens)), _LONGEST_SECONDS)
        if step.ended - self._shown >= frame:
            self._shown = step.ended
            self._send(None)
        elif step.pressing:
            self._send(step.pressing)

    def send(self) -> None:
        """Hold nothing back: no step may follow for a while."""
        if self._steps:
            self._send(None)

    def _send(self, shown: set[int] | None) -> None:
        self._channel.sendall(protocol.frame(Steps(self._steps, shown)))
        self._steps = []
