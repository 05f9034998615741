"""How families of models write tool calls and reasoning: markers, and the grammar that makes them do it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from ..config import ToolParser
from .schemas.tools import Tool


@dataclass(frozen=True, slots=True)
class Dialect:
    """opens: what begins a call (each: the first of several), closes: what may stand behind one; bare: a whole answer
    may be a call without a marker; named: the name stands between `opens` and `separator`, only arguments are JSON.
    """

    opens: str
    closes: str = ""
    bare: bool = False
    separator: str | None = None
    arguments: str = "arguments"


DIALECTS: dict[str, Dialect] = {
    "hermes": Dialect("<tool_call>", "</tool_call>"),
    "llama3": Dialect("<|python_tag|>", bare=True, arguments="parameters"),
    "mistral": Dialect("[TOOL_CALLS]"),
    "mistral_named": Dialect("[TOOL_CALLS]", separator="[ARGS]"),
}
THINK, THOUGHT = "<think>", "</think>"


def detected(template: str) -> ToolParser | None:
    """The dialect that a chat template teaches, None if it knows no tools."""
    if "tools" not in template:
        return None
    if "<tool_call>" in template:
        return "hermes"
    if "[TOOL_CALLS]" in template:
        return "mistral_named" if "[ARGS]" in template else "mistral"
    return "llama3" if "<|python_tag|>" in template or '"parameters"' in template else None


class Grammars:
    """Lark texts for one model; `token` gives the id of a marker that is one token of its own."""

    def __init__(self, dialect: Dialect | None, tokens: dict[str, int]) -> None:
        self._dialect = dialect
        self._tokens = tokens

    def json_answer(self, schema: dict[str, Any] | bool, *, thinks: bool) -> str:
        return self._start("body", thinks) + f"body: %json {_schema(schema)}\n"

    def calls(self, tools: list[Tool], *, several: bool, thinks: bool) -> str:
        """One call of one of `tools`, or more."""
        return self._start("all", thinks) + self._calls(tools, several=several)

    def free_with_calls(self, tools: list[Tool], *, several: bool) -> str | None:
        """Text, reasoning, and perhaps calls behind it, with arguments as their schemas say. None where text could hold
        the marker of a call, too. In a bare dialect an answer that begins with a brace is a call.
        """
        if self._dialect is not None and self._dialect.bare:
            marker = "".join(f"\\x{ord(letter):02x}" for letter in self._dialect.opens)
            marked = f" | {self._marker(self._dialect.opens)} all" if self._dialect.opens in self._tokens else ""
            text = f"TEXT: /\\s*[^\\s{{](.|\\n)*/ & ~/(.|\\n)*{marker}(.|\\n)*/\n"
            return f"start: TEXT | all{marked}\n{text}" + self._calls(tools, several=several)
        if self._dialect is None or self._dialect.opens not in self._tokens:
            return None
        marks = " | ".join(f"<[{self._tokens[mark]}]>" for mark in (THINK, THOUGHT) if mark in self._tokens)
        text = f"text: FREE (({marks}) FREE)*\n" if marks else "text: FREE\n"
        return f"start: text all?\n{text}FREE: /(.|\\n)*/\n" + self._calls(tools, several=several)

    def _calls(self, tools: list[Tool], *, several: bool) -> str:
        assert self._dialect is not None
        dialect = self._dialect
        opens, closes = self._marker(dialect.opens), self._marker(dialect.closes) if dialect.closes else '""'
        lines = []
        for number, tool in enumerate(tools):
            free = tool.function.parameters is None
            arguments = f"%json {_schema({'type': 'object'} if free else tool.function.parameters or {})}"
            if dialect.separator is not None:
                body = f"{json.dumps(tool.function.name)} {self._marker(dialect.separator)} {arguments}"
            else:
                head = f'{{"name": {json.dumps(tool.function.name)}, "{dialect.arguments}": '
                body = f'{json.dumps(head)} {arguments} "}}"'
            lines.append(f"f{number}: {body}\n")
        lines.append(f"one: {' | '.join(f'f{number}' for number in range(len(tools)))}\n")
        if dialect.separator is not None:
            rules = f"all: call{'+' if several else ''}\ncall: {opens} one\n"
        elif dialect.closes:
            again = ' ("\\n" call)*' if several else ""
            rules = f'all: call{again}\ncall: {opens} "\\n" one "\\n" {closes}\n'
        else:
            again = f' ("{"; " if dialect.bare else ", "}" one)*' if several else ""
            rules = f"all: one{again}\n" if dialect.bare else f'all: {opens} "[" one{again} "]"\n'
        return rules + "".join(lines)

    def _start(self, rule: str, thinks: bool) -> str:
        if not thinks:
            return f"start: {rule}\n"
        # The prompt has opened the reasoning; it is free until it is closed.
        if THOUGHT in self._tokens:
            return f"start: FREE <[{self._tokens[THOUGHT]}]> BREAK {rule}\nFREE: /(.|\\n)*/\nBREAK: /\\n{{0,2}}/\n"
        thought = json.dumps(THOUGHT)
        return f"start: free BREAK {rule}\nfree[suffix={thought}]: /(.|\\n)*/\nBREAK: /\\n{{0,2}}/\n"

    def _marker(self, text: str) -> str:
        """A marker that is a token must be that token: the same letters from others would not be the same to the model."""
        token = self._tokens.get(text)
        return json.dumps(text) if token is None else f"<[{token}]>"


def _schema(schema: dict[str, Any] | bool) -> str:
    """With at most one space between parts: a weak model would write them for ever."""
    if isinstance(schema, bool):
        return json.dumps(schema)
    return json.dumps({**schema, "x-guidance": {"whitespace_pattern": " ?"}})
