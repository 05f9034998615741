"""What goes from the engine to the front: steps, several at a time where nobody can see the difference."""

from __future__ import annotations

import socket

from .. import protocol
from ..protocol import Step

# One frame of a screen.
_TOGETHER_SECONDS = 1 / 60


class Outbox:
    """Steps on their way over `channel`. Those that end within one frame of a screen leave together, unless one is pressing.

    Whoever handles tokens on their way to the client then wakes up less often: with a small model and many answers
    that is most of what streaming costs.
    """

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._steps: list[Step] = []
        self._sent = 0.0

    def put(self, step: Step) -> None:
        self._steps.append(step)
        if step.pressing or step.ended - self._sent >= _TOGETHER_SECONDS:
            self.send()

    def send(self) -> None:
        """Hold nothing back: no step may follow for a while."""
        if self._steps:
            self._channel.sendall(protocol.frame(self._steps))
            self._sent = self._steps[-1].ended
            self._steps = []
