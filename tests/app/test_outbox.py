"""Steps leave the engine one by one where somebody waits for them, and together where nobody can tell."""

from __future__ import annotations

import pickle
import socket
from collections.abc import Iterator

import pytest
from bedplate_server.engine.outbox import Outbox
from bedplate_server.protocol import Step


@pytest.fixture
def ends() -> Iterator[tuple[Outbox, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.setblocking(False)
        yield Outbox(ours), theirs


def received(channel: socket.socket) -> list[list[int]]:
    """The tokens of each message that has arrived."""
    data, messages = b"", []
    try:
        data = channel.recv(1 << 20)
    except BlockingIOError:
        return []
    while data:
        length = int.from_bytes(data[:4], "big")
        steps = pickle.loads(data[4 : 4 + length])
        messages.append([token for step in steps for _, token, *_ in step.tokens])
        data = data[4 + length :]
    return messages


def step(token: int, milliseconds: float, *, pressing: bool = False) -> Step:
    return Step(tokens=[(1, token, None, None)], ended=100 + milliseconds / 1000, pressing=pressing)


def test_fast_steps_leave_once_per_frame_of_a_screen(ends: tuple[Outbox, socket.socket]) -> None:
    outbox, channel = ends
    for token in range(20):
        outbox.put(step(token, 4 * token))
    assert received(channel) == [[0], [1, 2, 3, 4, 5], [6, 7, 8, 9, 10], [11, 12, 13, 14, 15]]
    outbox.send()
    assert received(channel) == [[16, 17, 18, 19]]
    outbox.send()
    assert received(channel) == []


def test_slow_steps_leave_at_once(ends: tuple[Outbox, socket.socket]) -> None:
    outbox, channel = ends
    for token in range(3):
        outbox.put(step(token, 20 * token))
    assert received(channel) == [[0], [1], [2]]


def test_a_pressing_step_takes_along_what_waits(ends: tuple[Outbox, socket.socket]) -> None:
    outbox, channel = ends
    outbox.put(step(0, 0))
    outbox.put(step(1, 2))
    outbox.put(step(2, 3, pressing=True))
    assert received(channel) == [[0], [1, 2]]
