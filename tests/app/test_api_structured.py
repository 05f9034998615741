"""Structured answers match what was asked for, streamed and in any company; reasoning comes apart from the answer."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import jsonschema_rs
import openai
import pytest
from openai.types.chat import ChatCompletion
from pydantic import BaseModel, Field

from tests.app.support.server import ServerProcess

ASKED: list[Any] = [{"role": "user", "content": "who?"}]
PERSON: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 8},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 3},
        "inner": {"$ref": "#/$defs/inner"},
        "either": {"anyOf": [{"type": "boolean"}, {"type": "null"}]},
    },
    "required": ["name", "age", "tags", "inner", "either"],
    "additionalProperties": False,
    "$defs": {
        "inner": {
            "type": "object",
            "properties": {"ok": {"const": True}},
            "required": ["ok"],
            "additionalProperties": False,
        }
    },
}


@pytest.fixture(scope="module")
def client(tools_server: ServerProcess) -> openai.OpenAI:
    return tools_server.openai()


def schema_format(schema: dict[str, Any]) -> Any:
    return {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": schema}}


def ask(client: openai.OpenAI, **options: Any) -> ChatCompletion:
    settings: dict[str, Any] = {"temperature": 1, "max_tokens": 300, "messages": ASKED, **options}
    return client.chat.completions.create(model="hermes", **settings)


def test_a_form_that_cannot_be_followed_is_the_requests_fault(client: openai.OpenAI, server: ServerProcess) -> None:
    """One that the grammar's engine gives up on while it is followed, and any for a model without an end."""
    endless = {"type": "string", "pattern": "^((a|b|c|[^d]{1,30}){1,300}e){1,100}$"}
    with pytest.raises(openai.BadRequestError) as refused:
        ask(client, response_format=schema_format(endless), max_tokens=200)
    assert (refused.value.param, refused.value.code) == ("response_format", "invalid_json_schema")
    assert "not numbers" not in refused.value.message
    with pytest.raises(openai.BadRequestError, match="no token that ends") as refused:
        client.chat.completions.create(model="endless", messages=ASKED, response_format={"type": "json_object"})
    assert refused.value.response.headers["x-should-retry"] == "false"


@pytest.mark.parametrize("temperature", [0, 1, 2])
def test_the_answer_matches_its_schema(client: openai.OpenAI, temperature: float) -> None:
    for seed in range(4):
        answer = ask(client, response_format=schema_format(PERSON), temperature=temperature, seed=seed)
        assert answer.choices[0].finish_reason == "stop"
        jsonschema_rs.validate(PERSON, json.loads(answer.choices[0].message.content or ""))


def test_streamed_and_plain_are_the_same_and_all_choices_match(client: openai.OpenAI) -> None:
    settings: dict[str, Any] = {"response_format": schema_format(PERSON), "seed": 9, "n": 3}
    plain = ask(client, **settings)
    texts = ["", "", ""]
    for chunk in ask(client, stream=True, **settings):
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
    assert texts == [choice.message.content for choice in plain.choices]
    assert len(set(texts)) == 3
    for text in texts:
        jsonschema_rs.validate(PERSON, json.loads(text))


def test_structured_answers_next_to_free_ones_disturb_neither(client: openai.OpenAI) -> None:
    def freely(number: int) -> str | None:
        turns = [{"role": "user", "content": f"question {number}"}]
        return ask(client, messages=turns, temperature=0, max_tokens=40).choices[0].message.content

    alone = [freely(number) for number in range(5)]
    with ThreadPoolExecutor(16) as pool:
        bound = [pool.submit(ask, client, response_format=schema_format(PERSON), seed=seed) for seed in range(12)]
        free = [pool.submit(freely, number % 5) for number in range(15)]
        assert [one.result() for one in free] == alone * 3
        for one in bound:
            jsonschema_rs.validate(PERSON, json.loads(one.result().choices[0].message.content or ""))


def test_json_object_is_an_object(client: openai.OpenAI) -> None:
    ended = 0
    for seed in range(10):
        choice = ask(client, response_format={"type": "json_object"}, seed=seed, max_tokens=200).choices[0]
        assert (choice.message.content or "").startswith("{")
        if choice.finish_reason == "stop":
            ended += 1
            assert isinstance(json.loads(choice.message.content or ""), dict)
    assert ended > 0


def test_the_parse_helper_of_the_official_client_works(client: openai.OpenAI) -> None:
    class Person(BaseModel):
        name: str = Field(max_length=6)
        mood: Literal["good", "bad"]
        ages: list[int] = Field(max_length=2)

    answer = client.chat.completions.parse(
        model="hermes", messages=ASKED, response_format=Person, max_tokens=300, seed=3
    )
    assert isinstance(answer.choices[0].message.parsed, Person)
    with client.chat.completions.stream(
        model="hermes", messages=ASKED, response_format=Person, max_tokens=300, seed=3
    ) as stream:
        for _ in stream:
            pass
        assert stream.get_final_completion().choices[0].message.parsed == answer.choices[0].message.parsed


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "wild"},
        {"$ref": "#/nowhere"},
        {"type": "string", "pattern": "("},
        {"type": "array", "uniqueItems": True},
    ],
)
def test_a_schema_that_cannot_be_kept_is_refused_by_name(client: openai.OpenAI, schema: dict[str, Any]) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        ask(client, response_format=schema_format(schema))
    assert refused.value.param == "response_format.json_schema.schema"
    assert refused.value.code == "invalid_json_schema"


def test_a_model_that_never_ends_fails_alone(client: openai.OpenAI) -> None:
    with pytest.raises(openai.APIStatusError) as failed:
        client.chat.completions.create(model="endless", messages=ASKED, response_format=schema_format(PERSON))
    assert "no token that ends an answer" in failed.value.message
    fine = client.chat.completions.create(model="endless", messages=ASKED, max_tokens=3)
    assert fine.choices[0].finish_reason == "length"


def test_reasoning_comes_apart_from_the_answer_that_follows(client: openai.OpenAI, tools_server: ServerProcess) -> None:
    """The prompt opens the reasoning, the schema holds only behind it. A bias makes the model close it early."""
    with tools_server.http() as http:
        (close,) = http.post("/tokenize", json={"model": "hermes", "prompt": "</think>"}).json()["tokens"]
    settings: dict[str, Any] = {
        "response_format": schema_format(PERSON),
        "extra_body": {"chat_template_kwargs": {"enable_thinking": True}},
        "logit_bias": {str(close): 6},
        "max_tokens": 600,
    }
    seen = 0
    for seed in range(5):
        answer = ask(client, seed=seed, **settings).choices[0]
        if answer.finish_reason != "stop":
            continue
        seen += 1
        jsonschema_rs.validate(PERSON, json.loads(answer.message.content or ""))
        reasoning = (answer.message.model_extra or {}).get("reasoning_content") or ""
        assert "</think>" not in reasoning
        parts = {"content": "", "reasoning_content": ""}
        for chunk in ask(client, seed=seed, stream=True, **settings):
            delta = chunk.choices[0].delta
            parts["content"] += delta.content or ""
            parts["reasoning_content"] += (delta.model_extra or {}).get("reasoning_content") or ""
        assert parts == {"content": answer.message.content, "reasoning_content": reasoning}
    assert seen > 0


def test_the_end_of_an_answer_can_be_given(client: openai.OpenAI, tools_server: ServerProcess) -> None:
    turns = [*ASKED, {"role": "assistant", "content": "It was"}]
    body: dict[str, Any] = {"extra_body": {"continue_final_message": True, "add_generation_prompt": False}}
    continued = ask(client, messages=turns, temperature=0, max_tokens=12, **body)
    with tools_server.http() as http:
        prompt = "<|user|>who?<|end|><|assistant|>It was"
        tokens = http.post("/tokenize", json={"model": "hermes", "prompt": prompt}).json()["tokens"]
    raw = client.completions.create(model="hermes", prompt=tokens, temperature=0, max_tokens=12)
    assert continued.choices[0].message.content == raw.choices[0].text
    assert continued.usage is not None and continued.usage.prompt_tokens == len(tokens)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"chat_template_kwargs": {"colour": "red"}}, "chat_template_kwargs.colour"),
        ({"reasoning_effort": "high"}, "reasoning_effort"),
        ({"response_format": {"type": "json_object"}, "ignore_eos": True}, "ignore_eos"),
    ],
)
def test_what_the_model_does_not_know_is_refused_by_name(
    tools_server: ServerProcess, fields: dict[str, Any], param: str
) -> None:
    with tools_server.http() as http:
        response = http.post(
            "/v1/chat/completions", json={"model": "hermes", "messages": ASKED, "max_tokens": 3, **fields}
        )
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)
