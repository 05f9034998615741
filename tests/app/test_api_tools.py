"""Tool calls over HTTP: demanded ones always come, well-formed and streamed as OpenAI's clients expect them."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jsonschema_rs
import openai
import pytest
from openai.types.chat import ChatCompletion
from pydantic import BaseModel, Field

from tests.app.support.server import ServerProcess

ASKED = [{"role": "user", "content": "weather in Paris?"}]
WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 8}, "days": {"$ref": "#/$defs/days"}},
    "required": ["city", "days"],
    "additionalProperties": False,
    "$defs": {"days": {"type": "integer", "minimum": 1, "maximum": 14}},
}
CLOCK = {
    "type": "object",
    "properties": {"utc": {"type": "boolean"}},
    "required": ["utc"],
    "additionalProperties": False,
}
SCHEMAS = {"get_weather": WEATHER, "get_time": CLOCK}
TOOLS: list[Any] = [
    {"type": "function", "function": {"name": name, "description": "it does", "parameters": schema}}
    for name, schema in SCHEMAS.items()
]
FAMILIES = ["hermes", "mistral"]


@pytest.fixture(scope="module")
def client(tools_server: ServerProcess) -> openai.OpenAI:
    return tools_server.openai()


def ask(client: openai.OpenAI, model: str = "hermes", **options: Any) -> ChatCompletion:
    settings: dict[str, Any] = {"temperature": 1, "max_tokens": 400, "tools": TOOLS, "messages": ASKED, **options}
    return client.chat.completions.create(model=model, **settings)


def calls_of(answer: ChatCompletion, choice: int = 0) -> list[tuple[str, Any]]:
    """Names and arguments, which match their schemas."""
    calls = []
    for call in answer.choices[choice].message.tool_calls or []:
        assert call.type == "function"
        assert call.id.startswith("call_")
        arguments = json.loads(call.function.arguments)
        jsonschema_rs.validate(SCHEMAS[call.function.name], arguments)
        calls.append((call.function.name, arguments))
    return calls


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("seed", range(3))
def test_a_demanded_call_comes_and_matches_its_schema(client: openai.OpenAI, family: str, seed: int) -> None:
    answer = ask(client, family, tool_choice="required", parallel_tool_calls=False, seed=seed)
    assert len(calls_of(answer)) == 1
    assert answer.choices[0].finish_reason == "tool_calls"
    assert answer.choices[0].message.content is None


@pytest.mark.parametrize("family", FAMILIES)
def test_the_named_function_is_the_one_called(client: openai.OpenAI, family: str) -> None:
    for name in SCHEMAS:
        named: Any = {"type": "function", "function": {"name": name}}
        answer = ask(client, family, tool_choice=named, parallel_tool_calls=False, temperature=0)
        assert [called for called, _ in calls_of(answer)] == [name]


@pytest.mark.parametrize("family", FAMILIES)
def test_streamed_calls_are_whole_calls_in_fragments(client: openai.OpenAI, family: str) -> None:
    """Id, type and name come first and once; what follows has the index and more of the arguments."""
    settings: dict[str, Any] = {"tool_choice": "required", "seed": 2, "max_tokens": 600}
    plain = ask(client, family, **settings)
    names: dict[int, str] = {}
    arguments: dict[int, str] = {}
    reasons: list[str | None] = []
    for chunk in ask(client, family, stream=True, **settings):
        (choice,) = chunk.choices
        assert not choice.delta.content
        reasons.append(choice.finish_reason)
        for call in choice.delta.tool_calls or []:
            assert call.function is not None
            if call.index not in names:
                assert (call.type, call.index, call.function.arguments) == ("function", len(names), "")
                assert call.id and call.function.name
                names[call.index] = call.function.name
            else:
                assert call.id is None and call.function.name is None and call.type is None
                arguments[call.index] = arguments.get(call.index, "") + (call.function.arguments or "")
    assert [(names[index], json.loads(arguments[index])) for index in names] == calls_of(plain)
    assert reasons[-1] == plain.choices[0].finish_reason == "tool_calls"
    assert set(reasons[:-1]) == {None}


def test_several_calls_have_indices_of_their_own(client: openai.OpenAI) -> None:
    counts = {len(calls_of(ask(client, tool_choice="required", seed=seed, max_tokens=900))) for seed in range(8)}
    assert max(counts) > 1


def test_demanded_calls_next_to_plain_answers_disturb_neither(client: openai.OpenAI) -> None:
    def plainly(number: int) -> str | None:
        options: Any = {"tools": openai.omit, "temperature": 0, "max_tokens": 30}
        return (
            ask(client, messages=[{"role": "user", "content": f"question {number}"}], **options)
            .choices[0]
            .message.content
        )

    alone = [plainly(number) for number in range(4)]
    with ThreadPoolExecutor(12) as pool:
        forced = [
            pool.submit(ask, client, tool_choice="required", parallel_tool_calls=False, seed=seed) for seed in range(8)
        ]
        plain = [pool.submit(plainly, number % 4) for number in range(12)]
        assert [one.result() for one in plain] == alone * 3
        for one in forced:
            assert calls_of(one.result())


def test_tools_that_must_not_be_called_are_not_shown_to_the_model(client: openai.OpenAI) -> None:
    bare = ask(client, tools=openai.omit, temperature=0, max_tokens=3)
    none = ask(client, tool_choice="none", temperature=0, max_tokens=3)
    auto = ask(client, tool_choice="auto", temperature=0, max_tokens=3)
    assert bare.usage is not None and auto.usage is not None and none.usage is not None
    assert bare.usage.prompt_tokens == none.usage.prompt_tokens
    assert auto.usage.prompt_tokens > none.usage.prompt_tokens
    assert none.choices[0].message == bare.choices[0].message


def test_an_answered_call_is_understood(client: openai.OpenAI) -> None:
    first = ask(client, tool_choice="required", seed=1).choices[0].message
    results = [{"role": "tool", "tool_call_id": call.id, "content": "sunny"} for call in first.tool_calls or []]
    answer = ask(
        client, messages=[*ASKED, first.model_dump(exclude_none=True), *results], tool_choice="none", max_tokens=5
    )
    assert answer.choices[0].finish_reason in ("stop", "length")


def test_the_parse_helper_of_the_official_client_works(client: openai.OpenAI) -> None:
    """It sends `strict: true`, which holds for the calls that the model makes by itself."""

    class GetTime(BaseModel):
        zone: str = Field(max_length=5)

    tool = openai.pydantic_function_tool(GetTime)
    settings: dict[str, Any] = {"messages": ASKED, "tools": [tool], "max_tokens": 300, "seed": 5}
    answer = client.chat.completions.parse(
        model="hermes", tool_choice="required", parallel_tool_calls=False, **settings
    )
    (call,) = answer.choices[0].message.tool_calls or []
    assert isinstance(call.function.parsed_arguments, GetTime)


def test_strict_calls_made_freely_match_their_schema(tools_server: ServerProcess, client: openai.OpenAI) -> None:
    """A pushed model calls by itself; only whole calls count, as no length ends them."""
    strict = [{"type": "function", "function": {**TOOLS[1]["function"], "strict": True}}]
    with tools_server.http() as http:
        (token,) = http.post("/tokenize", json={"model": "hermes", "prompt": "<tool_call>"}).json()["tokens"]
    called = 0
    for seed in range(6):
        bias: Any = {"logit_bias": {str(token): 8}}
        answer = ask(client, tools=strict, seed=seed, max_tokens=300, **bias)
        if answer.choices[0].finish_reason == "tool_calls":
            called += len(calls_of(answer))
    assert called > 0


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": "endless"}, "tools"),
        ({"tool_choice": "required", "min_tokens": 5}, "min_tokens"),
        (
            {
                "tool_choice": "required",
                "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "wild"}}}],
            },
            "tools[0].function.parameters",
        ),
    ],
)
def test_what_the_model_cannot_do_is_refused_by_name(
    tools_server: ServerProcess, fields: dict[str, Any], param: str
) -> None:
    with tools_server.http() as http:
        body = {"model": "hermes", "messages": ASKED, "tools": TOOLS, "max_tokens": 3, **fields}
        response = http.post("/v1/chat/completions", json=body)
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)
