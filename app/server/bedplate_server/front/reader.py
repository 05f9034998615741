"""Reads an answer's text as it comes: what is reasoning, what is said, and which tools are called."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Literal, Protocol

from .call_stream import CallStream
from .dialects import THINK, THOUGHT, Dialect

_BETWEEN_CALLS = " \n\t,;]"


@dataclass(frozen=True, slots=True)
class Delta:
    """What came next. A call begins with its id and name, its arguments follow in fragments."""

    kind: Literal["content", "reasoning", "call", "arguments"]
    text: str = ""
    call: int = 0
    id: str = ""


class Reader(Protocol):
    """One choice's. `calls` counts the calls so far."""

    calls: int

    def push(self, text: str) -> list[Delta]: ...
    def finish(self) -> list[Delta]: ...


class PlainReader:
    """All text is content."""

    calls = 0

    def push(self, text: str) -> list[Delta]:
        return [Delta("content", text)] if text else []

    def finish(self) -> list[Delta]:
        return []


class DialectReader:
    """Splits reasoning off, then content from calls of the tools `names`. A call that is none is content again.

    thinks: the family reasons; thinking: the prompt has opened the reasoning; several: more than the first call counts.
    """

    def __init__(
        self, dialect: Dialect | None, names: set[str], *, thinks: bool, thinking: bool, several: bool = True
    ) -> None:
        self.calls = 0
        self._dialect = dialect
        self._names = names
        self._several = several
        self._buffer = ""
        self._call: CallStream | None = None
        self._sent = self._argued = False  # the current call's name, and something of its arguments
        self._counted = True  # the current call is reported
        self._opened = ""  # the marker that led to the current call
        self._stage: Literal["begin", "reasoning", "content", "calls"] = (
            "reasoning" if thinking else "begin" if thinks else "content"
        )
        self._fresh = True  # nothing of the stage's text was sent yet
        self._trim = thinking  # the blank lines around reasoning are not part of what is said

    def push(self, text: str) -> list[Delta]:
        self._buffer += text
        return self._read(ended=False)

    def finish(self) -> list[Delta]:
        deltas = self._read(ended=True)
        if self._call is not None and not self._sent:
            deltas += self._unread(self._call.raw)
        if self._buffer:
            deltas += self._say("content", self._buffer)
        return deltas

    def _read(self, *, ended: bool) -> list[Delta]:
        deltas: list[Delta] = []
        while True:
            before = self._stage, len(self._buffer), self._call
            match self._stage:
                case "begin":
                    self._begin(ended)
                case "reasoning":
                    deltas += self._reasoning(ended)
                case "content":
                    deltas += self._content(ended)
                case "calls":
                    deltas += self._calls(ended)
            if (self._stage, len(self._buffer), self._call) == before:
                return deltas

    def _begin(self, ended: bool) -> None:
        """Whether the answer opens with reasoning."""
        text = self._buffer.lstrip()
        if text.startswith(THINK):
            self._stage, self._buffer, self._trim = "reasoning", text[len(THINK) :], True
        elif ended or (text and not THINK.startswith(text)):
            self._stage = "content"

    def _reasoning(self, ended: bool) -> list[Delta]:
        text, found, rest = self._buffer.partition(THOUGHT)
        if found:
            deltas = self._say("reasoning", text.rstrip())
            self._stage, self._buffer, self._fresh, self._trim = "content", rest, True, True
            return deltas
        # Blanks before the end are not part of it, so they wait, too.
        certain = text[: len(text) - _overlap(text, THOUGHT)].rstrip()
        return self._take("reasoning", len(text) if ended else len(certain))

    def _content(self, ended: bool) -> list[Delta]:
        if self._dialect is None or not self._names:
            return self._take("content", len(self._buffer))
        text, opens = self._buffer, self._dialect.opens
        if self._fresh and self._dialect.bare and text.lstrip().startswith("{"):
            self._stage, self._opened = "calls", ""
            return []
        before, found, rest = text.partition(opens)
        if found:
            deltas = self._say("content", before if before.strip() else "")
            self._stage, self._buffer, self._opened = "calls", rest, opens
            return deltas
        if self._fresh and not text.strip() and not ended:
            return []
        return self._take("content", len(text) - (0 if ended else _overlap(text, opens)))

    def _calls(self, ended: bool) -> list[Delta]:
        assert self._dialect is not None
        if self._call is not None:
            return self._in_call(self._call)
        dialect, text = self._dialect, self._buffer.lstrip(_BETWEEN_CALLS)
        for marker in (dialect.closes, dialect.opens):
            if marker and text.startswith(marker):
                self._buffer, self._opened = text[len(marker) :], marker if marker == dialect.opens else ""
                return []
            if marker and text and marker.startswith(text) and not ended:
                return []
        text = text.lstrip(" \n\t[")
        if dialect.separator is not None and self._opened:
            name, found, rest = text.partition(dialect.separator)
            if found:
                self._begin_call(name.strip(), rest)
                return []
            if not ended and len(text) < 100:
                return []
        elif text.startswith("{"):
            self._begin_call(None, text)
            return []
        if not text and not ended:
            return []
        # Neither a call nor what may stand between two: the answer goes on in words.
        left = (self._opened if not self.calls else "") + text
        self._stage, self._dialect, self._buffer, self._opened = "content", None, left, ""
        return []

    def _begin_call(self, name: str | None, text: str) -> None:
        self._call, self._buffer, self._sent, self._argued = CallStream(name), text, False, False

    def _in_call(self, call: CallStream) -> list[Delta]:
        deltas: list[Delta] = []
        fresh, self._buffer = call.feed(self._buffer)
        if call.name is not None and not self._sent:
            if call.name not in self._names:
                self._call = None
                return self._unread(call.raw)
            self._counted = self._several or not self.calls
            if self._counted:
                deltas.append(Delta("call", call.name, self.calls, f"call_{uuid.uuid4().hex[:24]}"))
                self.calls += 1
            self._sent = True
        if call.done and self._sent and not (fresh or self._argued):
            fresh = "{}"
        if fresh and self._counted:
            self._argued = True
            deltas.append(Delta("arguments", fresh, self.calls - 1))
        if call.done:
            if not self._sent:
                deltas += self._unread(call.raw)
            self._call, self._opened = None, ""
        return deltas

    def _unread(self, raw: str) -> list[Delta]:
        """What looked like a call and is none: content, as it was written."""
        self._call, self._stage, self._dialect = None, "content", None
        self._buffer, self._opened = self._opened + raw + self._buffer, ""
        return self._content(True)

    def _take(self, kind: Literal["content", "reasoning"], length: int) -> list[Delta]:
        text, self._buffer = self._buffer[:length], self._buffer[length:]
        return self._say(kind, text)

    def _say(self, kind: Literal["content", "reasoning"], text: str) -> list[Delta]:
        if self._trim:
            text = text.lstrip("\n")
        if not text:
            return []
        self._fresh = self._trim = False
        return [Delta(kind, text)]


def _overlap(text: str, marker: str) -> int:
    """How many characters at the end of `text` could be the beginning of `marker`."""
    for length in range(min(len(marker) - 1, len(text)), 0, -1):
        if marker.startswith(text[-length:]):
            return length
    return 0
