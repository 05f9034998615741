"""Reasoning, content and tool calls are told apart, the same however the text is cut into pieces."""

from __future__ import annotations

import json
from typing import Any

import pytest
from bedplate_server.front.dialects import DIALECTS, detected
from bedplate_server.front.reader import DialectReader, Reader
from bedplate_server.front.template_reader import TemplateReader

NAMES = {"f", "g"}
Read = list[tuple[str, str]]


def read(reader: Reader, text: str, step: int) -> Read:
    """(kind, text) in order; fragments of one thing joined, calls by their names."""
    deltas = [delta for start in range(0, len(text), step) for delta in reader.push(text[start : start + step])]
    joined: list[list[Any]] = []
    for delta in [*deltas, *reader.finish()]:
        if joined and delta.kind != "call" and joined[-1][0::2] == [delta.kind, delta.call]:
            joined[-1][1] += delta.text
        else:
            joined.append([delta.kind, delta.text, delta.call])
    return [(kind, text) for kind, text, _ in joined]


CALL_F, CALL_G = ("call", "f"), ("call", "g")
CASES: list[tuple[str | None, str, dict[str, bool], Read]] = [
    (
        "hermes",
        '<tool_call>\n{"name": "f", "arguments": {"a": "}{\\"<tool_call>", "b": [1, {"c": 2}]}}\n</tool_call>\n'
        '<tool_call>\n{"arguments": {}, "name": "g"}\n</tool_call>',
        {},
        [CALL_F, ("arguments", '{"a": "}{\\"<tool_call>", "b": [1, {"c": 2}]}'), CALL_G, ("arguments", "{}")],
    ),
    (
        "hermes",
        'Let me see. <tool_call>{"name": "f", "arguments": "{\\"x\\": 1}"}</tool_call> done',
        {},
        [("content", "Let me see. "), CALL_F, ("arguments", '{"x": 1}'), ("content", "done")],
    ),
    (
        "hermes",
        'a < b and <tool_ then <tool_call>{"name": "nosuch", "arguments": {}}</tool_call>',
        {},
        [("content", 'a < b and <tool_ then <tool_call>{"name": "nosuch", "arguments": {}}</tool_call>')],
    ),
    ("hermes", '<tool_call>{"name": "f"}</tool_call>', {}, [CALL_F, ("arguments", "{}")]),
    ("hermes", '<tool_call>{"name": "f", "arguments": {"a": 1', {}, [CALL_F, ("arguments", '{"a": 1')]),
    ("hermes", '<tool_call>{"na', {}, [("content", '<tool_call>{"na')]),
    ("hermes", "<tool_call>not JSON</tool_call>", {}, [("content", "<tool_call>not JSON</tool_call>")]),
    ("hermes", "no calls at all <tool", {}, [("content", "no calls at all <tool")]),
    (
        "llama3",
        '{"name": "f", "parameters": {"a": 1}}; {"name": "g", "parameters": {}}',
        {},
        [CALL_F, ("arguments", '{"a": 1}'), CALL_G, ("arguments", "{}")],
    ),
    ("llama3", '<|python_tag|>{"name": "f", "parameters": {"a": 1}}', {}, [CALL_F, ("arguments", '{"a": 1}')]),
    ("llama3", '{"name": "Joe", "age": 3} is JSON', {}, [("content", '{"name": "Joe", "age": 3} is JSON')]),
    ("llama3", '{"x": 1}', {}, [("content", '{"x": 1}')]),
    (
        "mistral",
        '[TOOL_CALLS] [{"name": "f", "arguments": {"a": 1}}, {"name": "g", "arguments": {}}]',
        {},
        [CALL_F, ("arguments", '{"a": 1}'), CALL_G, ("arguments", "{}")],
    ),
    (
        "mistral",
        '[TOOL_CALLS] [{"name": "f", "arguments": {"a": 1}}, {"name": "g", "arguments": {}}]',
        {"several": False},
        [CALL_F, ("arguments", '{"a": 1}')],
    ),
    (
        "mistral_named",
        '[TOOL_CALLS]f[ARGS]{"a": 1}[TOOL_CALLS]g[ARGS]{}',
        {},
        [CALL_F, ("arguments", '{"a": 1}'), CALL_G, ("arguments", "{}")],
    ),
    (
        "hermes",
        '<think>\nhm <b>\n</think>\n\n<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>',
        {"thinks": True},
        [("reasoning", "hm <b>"), CALL_F, ("arguments", "{}")],
    ),
    (
        None,
        "hm\n</think>\n\nHello\n\n",
        {"thinks": True, "thinking": True},
        [("reasoning", "hm"), ("content", "Hello\n\n")],
    ),
    (None, "hm, no end", {"thinks": True, "thinking": True}, [("reasoning", "hm, no end")]),
    (None, "\nHello", {"thinks": True}, [("content", "\nHello")]),
    (None, "<thin is a word", {"thinks": True}, [("content", "<thin is a word")]),
    (None, "<think></think>Hello", {"thinks": True}, [("content", "Hello")]),
]


@pytest.mark.parametrize(("dialect", "text", "settings", "wanted"), CASES)
def test_an_answer_reads_the_same_in_pieces_of_any_size(
    dialect: str | None, text: str, settings: dict[str, bool], wanted: Read
) -> None:
    for step in (1, 2, 3, 7, 1000):
        options = {"thinks": False, "thinking": False, **settings}
        names = NAMES if dialect else set()
        reader = DialectReader(DIALECTS[dialect] if dialect else None, names, **options)
        assert read(reader, text, step) == wanted, step


def test_arguments_come_as_they_are_written() -> None:
    """What was written of them was sent, before the call has ended."""
    arguments = '{"a": "}{\\"", "b": [1, {"c": 2}]}'
    reader = DialectReader(DIALECTS["hermes"], NAMES, thinks=False, thinking=False)
    assert [delta.kind for delta in reader.push('<tool_call>{"name": "f", "arguments": ')] == ["call"]
    for letter in arguments:
        assert [(delta.kind, delta.text) for delta in reader.push(letter)] == [("arguments", letter)]
    assert reader.push("}</tool_call>") == reader.finish() == []


# As a tokenizer would bring it: Transformers' own declarative form.
TEMPLATE: dict[str, Any] = {
    "defaults": {"role": "assistant"},
    "start_anchor": "<|assistant|>",
    "fields": {
        "reasoning_content": {"open": "<think>", "close": "</think>", "content": "text"},
        "tool_calls": {
            "open_pattern": r"\s*<function=(?P<name>[^>\n]+)>",
            "close": "</function>",
            "repeats": True,
            "content": "xml-inline",
            "content_args": {"tag_pattern": r"<parameter=(?P<key>[^>\n]+)>\s*(?P<value>.*?)\s*</parameter>"},
            "transform": {"type": "function", "function": {"name": "{name}", "arguments": "{content}"}},
        },
        "content": {"content": "text"},
    },
}
TYPED = [{"type": "function", "function": {"name": "f", "parameters": {"properties": {"x": {"type": "integer"}}}}}]


@pytest.mark.parametrize("step", [1, 5, 1000])
def test_a_models_own_response_template_is_followed(step: int) -> None:
    text = "<think>hm</think>Well.\n<function=f><parameter=x>7</parameter></function>"
    reader = TemplateReader(TEMPLATE, "<|user|>hi<|assistant|>", TYPED, several=True)
    found = read(reader, text, step)
    assert found[:3] == [("reasoning", "hm"), ("content", "Well."), CALL_F]
    assert json.loads(found[3][1]) == {"x": 7}
    assert reader.calls == 1


def test_what_a_response_template_cannot_parse_is_shown_as_it_is() -> None:
    broken = {**TEMPLATE, "fields": {**TEMPLATE["fields"]}}
    broken["fields"]["tool_calls"] = {"open": "<call>", "close": "</call>", "content": "json", "repeats": True}
    reader = TemplateReader(broken, "", [], several=True)
    assert read(reader, "<call>no JSON</call> more", 1000) == [("content", "<call>no JSON</call> more")]


@pytest.mark.parametrize(
    ("template", "dialect"),
    [
        ("{% if tools %}<tool_call>", "hermes"),
        ("{% if tools %}[TOOL_CALLS]", "mistral"),
        ("{% if tools %}[TOOL_CALLS]{{ name }}[ARGS]", "mistral_named"),
        ("{% if tools %}<|python_tag|>", "llama3"),
        ("{% if tools %}something else", None),
        ("<tool_call>", None),
    ],
)
def test_the_dialect_is_found_in_the_template(template: str, dialect: str | None) -> None:
    assert detected(template) == dialect
