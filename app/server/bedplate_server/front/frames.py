"""Server-sent events of a streamed chat answer, rendered by hand: one concatenation per piece of text."""

from __future__ import annotations

from typing import Any

import orjson

from ..errors import ApiError

DONE = b"data: [DONE]\n\n"
KEEPALIVE = b": keep-alive\n\n"


def error_frame(error: ApiError) -> bytes:
    """An error inside a stream; OpenAI's clients raise on any event with an `error`."""
    return b"data: " + error.body + b"\n\n"


class ChatFrames:
    """The chunks of one answer. With `usage` the clients expect a null usage in every chunk but the last."""

    def __init__(self, completion_id: str, created: int, model: str, *, usage: bool) -> None:
        self._usage = usage
        head = {"id": completion_id, "object": "chat.completion.chunk", "created": created, "model": model}
        self._head = b"data: " + orjson.dumps(head)[:-1]
        self._tail = b',"usage":null}\n\n' if usage else b"}\n\n"

    def role(self, index: int) -> bytes:
        return self._chunk(index, b'{"role":"assistant","content":""}', b"null")

    def text(self, index: int, text: str, logprobs: list[dict[str, Any]] | None = None) -> bytes:
        """A piece of text, with the log probabilities of its tokens if they were asked for."""
        shown = b"null" if logprobs is None else orjson.dumps({"content": logprobs, "refusal": None})
        return self._chunk(index, b'{"content":' + orjson.dumps(text) + b"}", b"null", shown)

    def finish(self, index: int, reason: str) -> bytes:
        return self._chunk(index, b"{}", orjson.dumps(reason))

    def usage(self, usage: dict[str, Any]) -> bytes:
        if not self._usage:
            return b""
        return self._head + b',"choices":[],"usage":' + orjson.dumps(usage) + b"}\n\n"

    def _chunk(self, index: int, delta: bytes, reason: bytes, logprobs: bytes = b"null") -> bytes:
        return (
            self._head
            + b',"choices":[{"index":%d,"delta":' % index
            + delta
            + b',"logprobs":'
            + logprobs
            + b',"finish_reason":'
            + reason
            + b"}]"
            + self._tail
        )
