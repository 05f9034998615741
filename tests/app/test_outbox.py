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


def received(channel: socket.socket) -> list[tuple[list[int], set[int] | None]]:
    """The tokens of each message that has arrived, and who sees theirs."""
    data, messages = b"", []
    try:
        data = channel.recv(1 << 20)
    except BlockingIOError:
        return []
    while data:
        length = int.from_bytes(data[:4], "big")
        message = pickle.loads(data[4 : 4 + length])
        messages.append(([token for step in message.steps for _, token, *_ in step.tokens], message.shown))
        data = data[4 + length :]
    return messages


def step(token: int, milliseconds: float, *, pressing: set[int] | None = None) -> Step:
    return Step(tokens=[(1, token, None, None)], ended=100 + milliseconds / 1000, pressing=pressing or set())


def test_fast_steps_leave_once_per_frame_of_a_screen(ends: tuple[Outbox, socket.socket]) -> None:
    outbox, channel = ends
    for token in range(20):
        outbox.put(step(token, 4 * token))
    frames = [[0], [1, 2, 3, 4, 5], [6, 7, 8, 9, 10], [11, 12, 13, 14, 15]]
    assert received(channel) == [(tokens, None) for tokens in frames]
    outbox.send()
    assert received(channel) == [([16, 17, 18, 19], None)]
    outbox.send()
    assert received(channel) == []


@pytest.mark.parametrize(("answers", "steps"), [(4, 5), (16, 8), (64, 13)])
def test_on_shared_processors_frames_grow_with_the_answers(
    ends: tuple[Outbox, socket.socket], answers: int, steps: int
) -> None:
    outbox, channel = Outbox(ends[0]._channel, shared=True), ends[1]
    for number in range(80):
        outbox.put(Step(tokens=[(one, number, None, None) for one in range(answers)], ended=100 + number * 0.0041))
    whole = received(channel)[1:]
    assert {len(tokens) for tokens, _ in whole} == {answers * steps}


def test_slow_steps_leave_at_once(ends: tuple[Outbox, socket.socket]) -> None:
    outbox, channel = ends
    for token in range(3):
        outbox.put(step(token, 20 * token))
    assert received(channel) == [([0], None), ([1], None), ([2], None)]


def test_a_pressing_step_takes_along_what_waits_and_only_its_own_clients_see_theirs(
    ends: tuple[Outbox, socket.socket],
) -> None:
    outbox, channel = ends
    outbox.put(step(0, 0))
    outbox.put(step(1, 2))
    outbox.put(step(2, 3, pressing={7}))
    outbox.put(step(3, 12))
    assert received(channel) == [([0], None), ([1, 2], {7})]
    # The others' frame goes on meanwhile.
    outbox.put(step(4, 17, pressing={7}))
    assert received(channel) == [([3, 4], None)]
