"""Reads answers by the model's own response template, through Transformers' parser."""

from __future__ import annotations

import uuid
from typing import Any

import orjson

from .reader import Delta

_KINDS = {"content": "content", "reasoning_content": "reasoning", "thinking": "reasoning"}


class TemplateReader:
    """As DialectReader, but calls come whole: the parser knows their arguments when their region closes."""

    def __init__(self, template: dict[str, Any], prompt: str, tools: list[dict[str, Any]], *, several: bool) -> None:
        from transformers.utils.chat_parsing import ResponseParser

        self.calls = 0
        self._several = several
        # Its `tools` may be functions, too; a list of some of what a list may have is another type to mypy.
        self._parser = ResponseParser(template, prefix=prompt, tools=tools)  # type: ignore[arg-type]
        self._broken = False

    def push(self, text: str) -> list[Delta]:
        if self._broken:
            return [Delta("content", text)]
        try:
            return [delta for event in self._parser.feed(text) for delta in self._of(event)]
        except ValueError:
            # What cannot be parsed is shown as it was written.
            self._broken = True
            return [Delta("content", text)]

    def finish(self) -> list[Delta]:
        if self._broken:
            return []
        try:
            _, events = self._parser.finalize()
        except ValueError:
            return []
        return [delta for event in events for delta in self._of(event)]

    def _of(self, event: dict[str, Any]) -> list[Delta]:
        if event["type"] == "region_chunk" and event["field"] in _KINDS:
            kind: Any = _KINDS[event["field"]]
            return [Delta(kind, event["text"])]
        if event["type"] == "region_close" and event["field"] == "tool_calls":
            value = event["value"]
            return [delta for call in (value if isinstance(value, list) else [value]) for delta in self._call(call)]
        return []

    def _call(self, call: dict[str, Any]) -> list[Delta]:
        function = call.get("function", call)
        if self.calls and not self._several:
            return []
        arguments = function.get("arguments", {})
        text = arguments if isinstance(arguments, str) else orjson.dumps(arguments).decode()
        self.calls += 1
        begun = Delta("call", str(function.get("name")), self.calls - 1, f"call_{uuid.uuid4().hex[:24]}")
        return [begun, Delta("arguments", text, self.calls - 1)]
