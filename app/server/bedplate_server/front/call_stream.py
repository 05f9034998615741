"""One tool call, read from its JSON while that is being written."""

from __future__ import annotations

import orjson

_ARGUMENTS = ("arguments", "parameters")


class CallStream:
    """`{"name": …, "arguments": {…}}`, in any order of keys and with "parameters" for "arguments", as models write it.

    `feed` takes text and returns what is new of the arguments' JSON, as it stands there, once the name is known.
    With `name` given the text is the arguments alone. `raw` is all that was fed; `done` is set behind the last brace.
    """

    def __init__(self, name: str | None = None) -> None:
        self.name = name
        self.raw = ""
        self.done = False
        self._bare = name is not None
        self._held = ""  # arguments seen before the name
        self._arguments = self._bare  # inside the value of "arguments"
        self._depth = 0
        self._string = self._escape = False
        self._key: str | None = None
        self._begin = 0  # where the current string or top-level value began in raw
        self._value = False  # behind a top-level key's colon

    def feed(self, text: str) -> tuple[str, str]:
        """New arguments, and the text behind the call."""
        fresh = ""
        for position, letter in enumerate(text):
            before = self._depth
            self.raw += letter
            if not self._in_string(letter):
                self._structure(letter)
            inside = self._arguments and (self._depth > (0 if self._bare else 1) or before > (0 if self._bare else 1))
            fresh += letter if inside else ""
            if self._arguments and not self._bare and before == 2 and self._depth == 1:
                self._arguments = False
            if before == 1 and self._depth == 0:
                self.done = True
                return self._shown(fresh), text[position + 1 :]
        return self._shown(fresh), ""

    def _shown(self, fresh: str) -> str:
        if self.name is None:
            self._held += fresh
            return ""
        shown, self._held = self._held + fresh, ""
        return shown

    def _in_string(self, letter: str) -> bool:
        """Follow strings; true for their letters and both quotes."""
        if not self._string:
            if letter == '"':
                self._string, self._begin = True, len(self.raw) - 1
                return True
            return False
        if self._escape:
            self._escape = False
        elif letter == "\\":
            self._escape = True
        elif letter == '"':
            self._string = False
            if self._depth == 1 and not self._bare:
                self._string_ended(self.raw[self._begin :])
        return True

    def _string_ended(self, written: str) -> None:
        """A key of the call itself, or the name as the value of one."""
        try:
            text = str(orjson.loads(written))
        except orjson.JSONDecodeError:
            return
        if not self._value:
            self._key = text
        elif self._key == "name":
            self.name = text
        elif self._key in _ARGUMENTS:
            # Some models write the arguments as a string that holds JSON.
            self._held += text

    def _structure(self, letter: str) -> None:
        if letter in "{[":
            self._depth += 1
            if self._depth == 2 and self._value and self._key in _ARGUMENTS and not self._bare:
                self._arguments = True
        elif letter in "}]":
            self._depth -= 1
        elif self._depth == 1 and letter == ":":
            self._value = True
        elif self._depth == 1 and letter == ",":
            self._value, self._key = False, None
