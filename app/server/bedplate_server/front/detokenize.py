"""Tokens to text, piece by piece: whole characters only, and nothing of a stop string."""

from __future__ import annotations

from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream


class TextStream:
    """The text of one sequence as its tokens arrive.

    `push` returns what can be shown by now. Held back are bytes that do not yet make a character, and an
    ending that may be the start of a stop string. After a stop string was seen `stopped` is true and the text
    ends before it, or with `keep_stop` behind it. The first `minimum` tokens are no part of one.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        stops: list[str],
        *,
        keep_stop: bool = False,
        skip_special: bool = True,
        minimum: int = 0,
    ) -> None:
        self.tokenizer = tokenizer
        self._keep_stop = keep_stop
        self._minimum = minimum
        self._skip_special = skip_special
        self._decoder = DecodeStream(skip_special_tokens=skip_special)
        self._tokens: list[int] = []
        self._decoded = 0
        self._pending = False
        self._stops = stops
        self._held = ""
        self.stopped = False

    def push(self, token: int) -> str:
        self._tokens.append(token)
        text = self._next_characters(token)
        self._pending = text is None
        if text is None:
            return ""
        self._decoded += len(text)
        return self._past_stops(text)

    def finish(self) -> str:
        """The rest, once the sequence has ended; half a character at the very end stays out."""
        rest = ""
        if self._pending:
            # The last tokens may hold whole characters before the half one.
            rest = self.tokenizer.decode(self._tokens, skip_special_tokens=self._skip_special)[self._decoded :].rstrip(
                "\ufffd"
            )
        return self._past_stops(rest) + ("" if self.stopped else self._release(len(self._held)))

    def _past_stops(self, text: str) -> str:
        """What of the text so far is certainly before any stop string."""
        if not self._stops or self.stopped or len(self._tokens) <= self._minimum:
            return "" if self.stopped else text
        self._held += text
        # The one completed first counts, however many characters a token brings.
        ends = [(start + len(stop), start) for stop in self._stops if (start := self._held.find(stop)) >= 0]
        if ends:
            self.stopped = True
            end, start = min(ends)
            return self._release(end if self._keep_stop else start)
        return self._release(len(self._held) - self._doubtful())

    def _next_characters(self, token: int) -> str | None:
        try:
            return self._decoder.step(self.tokenizer, token)
        except Exception:
            # "Invalid prefix encountered": with some tokenizers a token changes how those before it read. What was
            # sent stays sent; decode on from here.
            self._decoder = DecodeStream(skip_special_tokens=self._skip_special)
            return self._decoder.step(self.tokenizer, token)

    def _release(self, length: int) -> str:
        text, self._held = self._held[:length], self._held[length:]
        return text

    def _doubtful(self) -> int:
        """How many characters at the end could be the beginning of a stop string."""
        longest = min(max(map(len, self._stops)) - 1, len(self._held))
        for length in range(longest, 0, -1):
            ending = self._held[-length:]
            if any(stop.startswith(ending) for stop in self._stops):
                return length
        return 0
