"""What a grammar lets a model write, the reader of the same family reads: calls that match their schemas."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import torch
from bedplate_server.engine.grammar import Grammars, GrammarState
from bedplate_server.errors import ApiError
from bedplate_server.front import dialects
from bedplate_server.front.conversation import Conversation, checked
from bedplate_server.front.dialects import DIALECTS
from bedplate_server.front.reader import DialectReader, Reader
from bedplate_server.front.schemas.chat import ChatRequest
from bedplate_server.front.schemas.tools import Tool
from bedplate_server.front.text import TextCodec

SCHEMAS: dict[str, Any] = {
    "f": {"type": "object", "properties": {"a": {"enum": [1, "}"]}}, "required": ["a"], "additionalProperties": False},
    "g": {
        "type": "object",
        "properties": {"b": {"$ref": "#/$defs/b"}},
        "required": ["b"],
        "additionalProperties": False,
        "$defs": {"b": {"type": "null"}},
    },
}
TOOLS = [
    Tool.model_validate({"type": "function", "function": {"name": n, "parameters": s}}) for n, s in SCHEMAS.items()
]


@pytest.fixture(scope="module")
def codec(models: dict[str, Path]) -> TextCodec:
    return TextCodec(models["tools"])


@pytest.fixture(scope="module")
def grammars(codec: TextCodec, models: dict[str, Path]) -> Grammars:
    return Grammars(str(models["tools"]), codec.tokenizer.get_vocab_size(), frozenset([1]))


def allowed(state: GrammarState, vocabulary: int) -> list[int]:
    mask = torch.zeros(1, (vocabulary + 31) // 32, dtype=torch.int32)
    state.fill(mask, 0)
    bits = (mask[0, :, None] >> torch.arange(32, dtype=torch.int32)) & 1
    return bits.flatten()[:vocabulary].nonzero()[:, 0].tolist()


def at_random(codec: TextCodec, state: GrammarState, seed: int, steps: int = 300) -> str | None:
    """A text that the grammar allows, by a model that has no idea; None if it came to no end."""
    source, tokens = random.Random(seed), []
    for _ in range(steps):
        choices = allowed(state, codec.tokenizer.get_vocab_size())
        if choices == [1] or (1 in choices and source.random() < 0.5):
            return codec.text(tokens)
        thought = codec.added_tokens["</think>"]
        likely = thought in choices and source.random() < 0.2
        token = thought if likely else source.choice([choice for choice in choices if choice != 1])
        tokens.append(token)
        state.accept(token)
    return None


def calls(reader: Reader, text: str) -> list[tuple[str, Any]]:
    found: list[list[str]] = []
    for delta in [*reader.push(text), *reader.finish()]:
        if delta.kind == "call":
            found.append([delta.text, ""])
        elif delta.kind == "arguments":
            found[delta.call][1] += delta.text
        else:
            assert delta.kind == "reasoning", delta
    return [(name, json.loads(arguments)) for name, arguments in found]


@pytest.mark.parametrize("family", DIALECTS)
@pytest.mark.parametrize("thinking", [False, True])
def test_demanded_calls_are_read_back(codec: TextCodec, grammars: Grammars, family: str, thinking: bool) -> None:
    writer = dialects.Grammars(DIALECTS[family], codec.added_tokens)
    ended = 0
    for seed in range(8):
        lark = writer.calls(TOOLS, several=seed % 2 == 0, thinks=thinking)
        text = at_random(codec, grammars(checked(lark, "tools")), seed)
        if text is None:
            continue
        ended += 1
        reader = DialectReader(DIALECTS[family], set(SCHEMAS), thinks=thinking, thinking=thinking)
        found = calls(reader, text)
        assert len(found) == 1 or (found and seed % 2 == 0), text
        for name, arguments in found:
            jsonschema_rs.validate(SCHEMAS[name], arguments)
    assert ended > 2


@pytest.mark.parametrize(("family", "possible"), [("hermes", False), ("mistral", False), ("llama3", True)])
def test_strict_functions_need_a_marker_that_text_cannot_hold(codec: TextCodec, family: str, possible: bool) -> None:
    writer = dialects.Grammars(DIALECTS[family], codec.added_tokens)
    assert writer.free_with_calls(TOOLS, several=True) is not None
    assert (dialects.Grammars(DIALECTS[family], {}).free_with_calls(TOOLS, several=True) is not None) is possible


GOOD = '{"name": "f", "parameters": {"a": 1}}'


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("It rains {today}.", True),
        (" \n It rains.", True),
        (GOOD, True),
        (f"{GOOD}; {GOOD}", True),
        ("{}", False),
        (f" {GOOD}", False),
        (GOOD.replace("1", "2"), False),
        (f"{GOOD} and more", False),
    ],
)
def test_a_bare_call_matches_its_schema_and_anything_else_is_text(
    codec: TextCodec, grammars: Grammars, known: bool, text: str, fits: bool
) -> None:
    """A brace at the beginning is the beginning of a call; its marker, be it a token or not, is none of the text."""
    writer = dialects.Grammars(DIALECTS["llama3"], codec.added_tokens if known else {})
    lark = checked(writer.free_with_calls(TOOLS, several=True) or "", "tools")

    def taken(tokens: list[int]) -> bool:
        state, size = grammars(lark), codec.tokenizer.get_vocab_size()
        for token in tokens:
            if token not in allowed(state, size):
                return False
            state.accept(token)
        return True

    assert taken([*codec.tokens(text, special=False), 1]) is fits
    marker = codec.tokens("<|python_tag|>", special=False)
    assert taken([*marker, *codec.tokens(GOOD, special=False), 1]) is known
    assert not taken([*codec.tokens("It rains. ", special=False), *marker])


def request(**fields: Any) -> ChatRequest:
    return ChatRequest.model_validate({"model": "m", "messages": [{"role": "user", "content": "hi"}], **fields})


def test_a_model_without_a_known_way_of_calling_refuses_tools(codec: TextCodec) -> None:
    tools = [tool.model_dump() for tool in TOOLS]
    for parser, param in (("none", "tools"), ("template", "tool_choice")):
        with pytest.raises(ApiError) as refused:
            Conversation(codec, parser, None).prepare(request(tools=tools, tool_choice="required"))  # type: ignore[arg-type]
        assert refused.value.payload["error"]["param"] == param


def test_strict_is_refused_where_it_cannot_be_kept(codec: TextCodec) -> None:
    strict = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}, "strict": True}}
    for parser in ("hermes", "llama3"):
        assert Conversation(codec, parser, None).prepare(request(tools=[strict])).grammar is not None  # type: ignore[arg-type]
    conversation = Conversation(codec, "hermes", None)
    conversation._grammars._tokens.clear()  # a model whose marker is no token of its own
    with pytest.raises(ApiError) as refused:
        conversation.prepare(request(tools=[strict]))
    assert refused.value.payload["error"]["param"] == "tools[0].function.strict"


def test_markers_that_are_special_tokens_are_shown_to_the_reader(codec: TextCodec) -> None:
    tools = [tool.model_dump() for tool in TOOLS]
    assert Conversation(codec, "mistral", None).prepare(request(tools=tools)).needs_special
    assert not Conversation(codec, "mistral", None).prepare(request()).needs_special
    assert not Conversation(codec, "hermes", None).prepare(request(tools=tools)).needs_special


def test_a_grammar_is_compiled_once_and_states_do_not_mix(codec: TextCodec, grammars: Grammars) -> None:
    lark = dialects.Grammars(None, {}).json_answer({"enum": ["ab", "cd"]}, thinks=False)
    text = checked(lark, "response_format")
    assert grammars.compile(text) is grammars.compile(text)
    first, second = grammars(text), grammars(text)
    (quote,) = codec.tokens('"', special=False)
    first.accept(quote)
    assert allowed(first, codec.tokenizer.get_vocab_size()) != allowed(second, codec.tokenizer.get_vocab_size())
