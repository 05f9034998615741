"""Server-sent events of a streamed answer, rendered by hand: one concatenation per piece of text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

from ..errors import ApiError
from .reader import Delta
from .schemas.streaming import StreamOptions

DONE = b"data: [DONE]\n\n"
KEEPALIVE = b": keep-alive\n\n"


def error_frame(error: ApiError) -> bytes:
    """An error inside a stream; OpenAI's clients raise on any event with an `error`."""
    return b"data: " + error.body + b"\n\n"


class _Frames:
    """The chunks of one answer, which begin like `head`. `options`: what the client wants to hear of the usage.

    If the usage is wanted clients expect a null in every chunk but the last, or else `so_far`, the usage by now.
    """

    def __init__(
        self, head: dict[str, Any], options: StreamOptions | None, so_far: Callable[[], dict[str, Any]]
    ) -> None:
        self._usage = options is not None and options.include_usage
        self._so_far = so_far if options is not None and options.continuous_usage_stats else None
        self._head = b"data: " + orjson.dumps(head)[:-1]
        self._tail = b',"usage":null}\n\n' if self._usage else b"}\n\n"

    def usage(self, usage: dict[str, Any]) -> bytes:
        if not self._usage:
            return b""
        return self._head + b',"choices":[],"usage":' + orjson.dumps(usage) + b"}\n\n"

    def _chunk(self, index: int, what: bytes, reason: bytes, logprobs: bytes = b"null") -> bytes:
        tail = self._tail
        if self._so_far is not None:
            tail = b',"usage":' + orjson.dumps(self._so_far()) + b"}\n\n"
        return (
            self._head
            + b',"choices":[{"index":%d,' % index
            + what
            + b',"logprobs":'
            + logprobs
            + b',"finish_reason":'
            + reason
            + b"}]"
            + tail
        )


class ChatFrames(_Frames):
    """Chunks of a chat completion."""

    def role(self, index: int) -> bytes:
        return self._chunk(index, b'"delta":{"role":"assistant","content":""}', b"null")

    def text(self, index: int, text: str, logprobs: list[dict[str, Any]] | None = None) -> bytes:
        """A piece of text, with the log probabilities of its tokens if they were asked for."""
        shown = b"null" if logprobs is None else orjson.dumps({"content": logprobs, "refusal": None})
        return self._chunk(index, b'"delta":{"content":' + orjson.dumps(text) + b"}", b"null", shown)

    def delta(self, index: int, delta: Delta) -> bytes:
        """Of a call the first chunk has id and name, those that follow have its index and more of its arguments."""
        match delta.kind:
            case "content":
                return self.text(index, delta.text)
            case "reasoning":
                shown: dict[str, Any] = {"reasoning_content": delta.text}
            case "call":
                function = {"name": delta.text, "arguments": ""}
                call = {"index": delta.call, "id": delta.id, "type": "function", "function": function}
                shown = {"tool_calls": [call]}
            case "arguments":
                shown = {"tool_calls": [{"index": delta.call, "function": {"arguments": delta.text}}]}
        return self._chunk(index, b'"delta":' + orjson.dumps(shown), b"null")

    def finish(self, index: int, reason: str) -> bytes:
        return self._chunk(index, b'"delta":{}', orjson.dumps(reason))


class CompletionFrames(_Frames):
    """Chunks of a plain completion."""

    def text(self, index: int, text: str, logprobs: dict[str, Any] | None = None, finish: str | None = None) -> bytes:
        return self._chunk(index, b'"text":' + orjson.dumps(text), orjson.dumps(finish), orjson.dumps(logprobs))
