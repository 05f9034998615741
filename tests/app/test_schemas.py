"""What a request asks for is served or refused by name, never ignored."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from bedplate_server.errors import ApiError
from bedplate_server.front.schemas.base import parse
from bedplate_server.front.schemas.chat import ChatRequest
from bedplate_server.front.schemas.embeddings import EmbeddingRequest
from bedplate_server.protocol import Sampling

ASKED = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


def chat(**fields: Any) -> ChatRequest:
    return parse(ChatRequest, json.dumps({**ASKED, **fields}).encode())


@pytest.mark.parametrize(
    "neutral",
    [
        {"n": 1, "logprobs": False, "tools": [], "tool_choice": "none", "parallel_tool_calls": True},
        {"frequency_penalty": 0, "presence_penalty": 0.0, "logit_bias": {}, "response_format": {"type": "text"}},
        {"store": False, "service_tier": "auto", "metadata": {}, "modalities": ["text"]},
        {"stop": None, "temperature": None, "tools": None, "something_new": None},
        {"user": "u", "safety_identifier": "s", "prompt_cache_key": "k"},
    ],
)
def test_fields_that_ask_for_nothing_are_accepted(neutral: dict[str, Any]) -> None:
    assert chat(**neutral).messages == chat().messages


def test_an_answer_can_be_sent_back_as_the_client_got_it() -> None:
    answer = {"role": "assistant", "content": "x", "refusal": None, "tool_calls": None, "annotations": []}
    turns = chat(messages=[*ASKED["messages"], answer]).messages
    assert turns[1].for_template() == {"role": "assistant", "content": "x"}


def test_content_parts_and_developer_messages_are_understood() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    turns = chat(messages=[{"role": "developer", "content": "d"}, {"role": "user", "content": parts, "name": "n"}])
    assert [turn.for_template() for turn in turns.messages] == [
        {"role": "system", "content": "d"},
        {"role": "user", "content": "ab", "name": "n"},
    ]


TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
REFUSED: list[tuple[dict[str, Any], str | None, str]] = [
    ({"tools": [{"type": "function"}]}, "tools[0].function", "missing_required_parameter"),
    ({"logprobs": 3}, "logprobs", "invalid_value"),
    ({"top_logprobs": 3}, "top_logprobs", "invalid_value"),
    ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", "invalid_value"),
    ({"presence_penalty": 2.5}, "presence_penalty", "invalid_value"),
    ({"frequency_penalty": -3}, "frequency_penalty", "invalid_value"),
    ({"repetition_penalty": 0}, "repetition_penalty", "invalid_value"),
    ({"min_p": 1.5}, "min_p", "invalid_value"),
    ({"min_tokens": -1}, "min_tokens", "invalid_value"),
    ({"min_tokens": 9, "max_tokens": 8}, "min_tokens", "invalid_value"),
    ({"stop_token_ids": [-1]}, "stop_token_ids[0]", "invalid_value"),
    ({"ignore_eos": 1}, "ignore_eos", "invalid_value"),
    ({"response_format": {"type": "json_schema"}}, "response_format.json_schema", "missing_required_parameter"),
    ({"response_format": {"type": "xml"}}, "response_format", "invalid_value"),
    (
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": 3}}},
        "response_format.json_schema.schema",
        "invalid_value",
    ),
    ({"tool_choice": "required"}, "tool_choice", "invalid_value"),
    ({"tool_choice": {"type": "function", "function": {"name": "f"}}}, "tool_choice", "invalid_value"),
    ({"tools": [TOOL, TOOL]}, "tools", "invalid_value"),
    ({"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "g"}}}, "tool_choice", "invalid_value"),
    (
        {"tools": [TOOL], "tool_choice": "required", "response_format": {"type": "json_object"}},
        "response_format",
        "invalid_value",
    ),
    ({"continue_final_message": True}, "continue_final_message", "invalid_value"),
    ({"chat_template_kwargs": {"tools": []}}, "chat_template_kwargs.tools", "invalid_value"),
    (
        {"stream": True, "stream_options": {"include_obfuscation": True}},
        "stream_options.include_obfuscation",
        "invalid_value",
    ),
    ({"logit_bias": {"50": 101}}, "logit_bias.50", "invalid_value"),
    ({"logit_bias": {"x": 1}}, "logit_bias.x", "invalid_value"),
    ({"logit_bias": [50]}, "logit_bias", "invalid_value"),
    ({"reasoning_effort": "extreme"}, "reasoning_effort", "invalid_value"),
    ({"store": True}, "store", "unsupported_parameter"),
    ({"best_of": 3}, "best_of", "unknown_parameter"),
    ({"model": None}, "model", "missing_required_parameter"),
    ({"model": 3}, "model", "invalid_value"),
    ({"messages": None}, "messages", "missing_required_parameter"),
    ({"messages": []}, "messages", "invalid_value"),
    ({"messages": "hi"}, "messages", "invalid_value"),
    ({"messages": [3]}, "messages[0]", "invalid_value"),
    ({"messages": [{"content": "hi"}]}, "messages[0].role", "missing_required_parameter"),
    ({"messages": [{"role": "wizard", "content": "hi"}]}, "messages[0].role", "invalid_value"),
    ({"messages": [{"role": "user"}]}, "messages[0].content", "invalid_value"),
    ({"messages": [{"role": "user", "content": 3}]}, "messages[0].content", "invalid_value"),
    (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
        "messages[0].content[0].type",
        "invalid_value",
    ),
    (
        {"messages": [{"role": "assistant", "content": "x", "tool_calls": [{}]}]},
        "messages[0].tool_calls[0].id",
        "missing_required_parameter",
    ),
    (
        {"messages": [{"role": "assistant", "tool_calls": [{**CALL, "function": {"name": "f", "arguments": "{"}}]}]},
        "messages[0].tool_calls[0].function.arguments",
        "invalid_value",
    ),
    ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id", "invalid_value"),
    ({"messages": [{"role": "user", "content": "x", "tool_calls": [CALL]}]}, "messages[0].tool_calls", "invalid_value"),
    ({"messages": [{"role": "user", "content": "x", "mood": "good"}]}, "messages[0].mood", "unknown_parameter"),
    ({"temperature": -0.1}, "temperature", "invalid_value"),
    ({"temperature": 2.1}, "temperature", "invalid_value"),
    ({"temperature": "1"}, "temperature", "invalid_value"),
    ({"top_p": 0}, "top_p", "invalid_value"),
    ({"top_p": 1.1}, "top_p", "invalid_value"),
    ({"top_k": -2}, "top_k", "invalid_value"),
    ({"max_tokens": 0}, "max_tokens", "invalid_value"),
    ({"max_tokens": 1.5}, "max_tokens", "invalid_value"),
    ({"max_tokens": 5, "max_completion_tokens": 6}, "max_tokens", "invalid_value"),
    ({"n": 0}, "n", "invalid_value"),
    ({"n": 10_000}, "n", "invalid_value"),
    ({"n": True}, "n", "invalid_value"),
    ({"seed": 2**64}, "seed", "invalid_value"),
    ({"seed": "x"}, "seed", "invalid_value"),
    ({"stop": ""}, "stop[0]", "invalid_value"),
    ({"stop": ["a"] * 17}, "stop", "invalid_value"),
    ({"stop": 5}, "stop", "invalid_value"),
    ({"stream": "yes"}, "stream", "invalid_value"),
    ({"stream_options": {"include_usage": True}}, "stream_options", "invalid_value"),
    ({"stream": True, "stream_options": {"frames": 2}}, "stream_options.frames", "unknown_parameter"),
]


@pytest.mark.parametrize(("fields", "param", "code"), REFUSED)
def test_what_is_not_served_is_refused_by_name(fields: dict[str, Any], param: str | None, code: str) -> None:
    with pytest.raises(ApiError) as refused:
        chat(**fields)
    error = refused.value.payload["error"]
    assert refused.value.status_code == 400
    assert (error["param"], error["code"]) == (param, code)
    assert error["type"] == "invalid_request_error"


def test_sampling_is_the_requests_then_the_models_then_openais() -> None:
    assert chat().sampling({}, 100) == Sampling(temperature=1.0)
    defaults = {"temperature": 0.6, "top_k": 20, "top_p": 0.9, "min_p": 0.1, "repetition_penalty": 1.05}
    assert chat(top_p=0.5, top_k=-1).sampling(defaults, 100) == Sampling(
        temperature=0.6, top_p=0.5, top_k=0, min_p=0.1, repetition_penalty=1.05
    )
    assert chat().sampling({"do_sample": False, "temperature": 0.6}, 100).temperature == 0
    assert chat(top_k=10**30, temperature=1e-9).sampling({}, 100) == Sampling(temperature=0.0, top_k=100)
    asked = {"presence_penalty": 1, "frequency_penalty": -1.5, "min_tokens": 3, "ignore_eos": True, "seed": 4}
    asked |= {"logit_bias": {"5": -100, "99": 2.5}, "stop_token_ids": [7, 8], "logprobs": True, "top_logprobs": 2}
    assert chat(**asked).sampling({}, 100) == Sampling(
        temperature=1.0,
        presence_penalty=1.0,
        frequency_penalty=-1.5,
        min_tokens=3,
        ignore_eos=True,
        seed="4",
        logit_bias=((5, -100.0), (99, 2.5)),
        stop_token_ids=(7, 8),
        logprobs=2,
    )


@pytest.mark.parametrize(
    ("fields", "grammar", "param"),
    [
        ({"logit_bias": {"100": 1}}, None, "logit_bias"),
        ({"stop_token_ids": [3, 100]}, None, "stop_token_ids"),
        ({"min_tokens": 2}, "a grammar", "min_tokens"),
        ({"ignore_eos": True}, "a grammar", "ignore_eos"),
    ],
)
def test_what_does_not_go_with_the_model_or_a_grammar_is_refused(
    fields: dict[str, Any], grammar: str | None, param: str
) -> None:
    with pytest.raises(ApiError) as refused:
        chat(**fields).sampling({}, 100, grammar)
    assert refused.value.payload["error"]["param"] == param


BROKEN_BODIES = [b"", b"{", b"[]", b"null", b'"text"', b"\xff\xfe", b'{"model": "\xff"}', b"[" * 100_000, b'{"a": NaN}']
BROKEN_BODIES += [b'{"model": "m", "messages": [{"role": "user", "content": "\\ud800"}]}']


@pytest.mark.parametrize("body", BROKEN_BODIES)
def test_a_body_that_is_no_request_is_refused(body: bytes) -> None:
    with pytest.raises(ApiError) as refused:
        parse(ChatRequest, body)
    assert refused.value.status_code == 400
    assert len(refused.value.body) < 1000


def test_a_refusal_does_not_echo_a_large_request() -> None:
    with pytest.raises(ApiError) as refused:
        parse(ChatRequest, orjson.dumps({**ASKED, "x" * 100_000: 1, "messages": ["y" * 100_000] * 50}))
    assert len(refused.value.body) < 1000


def embedding(**fields: Any) -> EmbeddingRequest:
    return parse(EmbeddingRequest, orjson.dumps({"model": "m", **fields}))


@pytest.mark.parametrize(
    ("given", "settled"),
    [
        ("text", ["text"]),
        (["a", "b"], ["a", "b"]),
        ([1, 2, 3], [[1, 2, 3]]),
        ([[1], [2, 3]], [[1], [2, 3]]),
    ],
)
def test_all_forms_of_embedding_input_are_understood(given: Any, settled: Any) -> None:
    assert embedding(input=given).input == settled


@pytest.mark.parametrize(
    "given", ["", [], [""], [[]], [1, "a"], ["a", 1], [[1], "a", None], [-1], [1.5], [True], {"a": 1}, 5, ["a"] * 2049]
)
def test_other_embedding_input_is_refused(given: Any) -> None:
    with pytest.raises(ApiError) as refused:
        embedding(input=given)
    assert refused.value.payload["error"]["param"].startswith("input")


@pytest.mark.parametrize("fields", [{"dimensions": 0}, {"encoding_format": "int8"}, {"truncate": True}])
def test_embedding_options_that_are_not_served_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ApiError) as refused:
        embedding(input="x", **fields)
    assert refused.value.payload["error"]["param"] == next(iter(fields))
