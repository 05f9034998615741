"""Sampling settings over HTTP: each does what its name says, for the request that asks."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletion

from tests.app.support.server import ServerProcess

Ask = Callable[..., ChatCompletion]


@pytest.fixture(scope="module")
def ask(server: ServerProcess) -> Ask:
    client = server.openai()

    def asked(question: str = "layer by layer", **options: Any) -> Any:
        extra = {
            name: options.pop(name)
            for name in list(options)
            if name in ("repetition_penalty", "min_tokens", "ignore_eos", "stop_token_ids", "min_p", "top_k")
            or name in ("include_stop_str_in_output", "skip_special_tokens")
        }
        settings: dict[str, Any] = {"temperature": 0, "max_tokens": 30, **options}
        turns: Any = [{"role": "user", "content": question}]
        return client.chat.completions.create(model="llama", messages=turns, extra_body=extra, **settings)

    return asked


def tokens_of(answer: ChatCompletion) -> list[str]:
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None and logprobs.content is not None
    return [entry.token for entry in logprobs.content]


def test_logprobs_belong_to_the_answers_tokens(ask: Ask) -> None:
    answer = ask(logprobs=True, top_logprobs=3, skip_special_tokens=False)
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None and logprobs.content is not None
    whole = b"".join(bytes(entry.bytes or []) for entry in logprobs.content).decode(errors="replace")
    assert whole.rstrip("\ufffd") == answer.choices[0].message.content
    for entry in logprobs.content:
        assert len(entry.top_logprobs) == 3
        assert entry.top_logprobs[0].bytes == entry.bytes, "greedy takes the likeliest"
        likely = [other.logprob for other in entry.top_logprobs]
        assert likely == sorted(likely, reverse=True)
        assert sum(map(math.exp, likely)) < 1.0001
    assert ask().choices[0].logprobs is None


def test_streamed_logprobs_are_the_plain_ones(ask: Ask) -> None:
    plain = ask(logprobs=True, top_logprobs=2).choices[0].logprobs
    streamed = [
        entry
        for chunk in ask(logprobs=True, top_logprobs=2, stream=True)
        for choice in chunk.choices
        for entry in (choice.logprobs.content if choice.logprobs else [])
    ]
    assert plain is not None and plain.content is not None
    assert [entry.bytes for entry in streamed] == [entry.bytes for entry in plain.content]
    assert len(streamed) > 3


def test_a_bias_bans_the_favourite_and_forces_another(ask: Ask) -> None:
    assert set(tokens_of(ask(logit_bias={"50": 100}, max_tokens=4, logprobs=True))) == set(
        tokens_of(ask(logit_bias={"50": 100}, max_tokens=1, logprobs=True))
    )


def test_ignore_eos_and_min_tokens_make_answers_longer(ask: Ask) -> None:
    questions = ["fox and dog", "é à ü", "1", "hello", "你好", "a", "b", "c", "d"]
    short = next(q for q in questions if ask(q, max_tokens=200).choices[0].finish_reason == "stop")
    first = ask(short, max_tokens=200).usage.completion_tokens
    assert ask(short, max_tokens=first + 20, ignore_eos=True).usage.completion_tokens == first + 20
    assert ask(short, max_tokens=first + 20, min_tokens=first + 5).usage.completion_tokens >= first + 5


def test_stop_strings_count_behind_min_tokens(ask: Ask) -> None:
    whole = ask().choices[0].message.content or ""
    stop = whole[4:7]
    answer = ask(stop=stop, min_tokens=20)
    assert answer.usage is not None
    assert answer.usage.completion_tokens >= 20
    assert whole.startswith(answer.choices[0].message.content or "?")
    assert ask(stop=stop).usage.completion_tokens < 20


@pytest.mark.parametrize(
    "settings",
    [{"temperature": 1, "top_k": 2**63}, {"temperature": 1, "top_k": 10**20, "top_p": 0.5}, {"top_k": 10**30}],
)
def test_no_number_is_too_large_for_the_engine(ask: Ask, settings: dict[str, Any]) -> None:
    assert ask(max_tokens=3, **settings).usage.completion_tokens > 0


def test_next_to_no_temperature_is_greedy(ask: Ask) -> None:
    for temperature in (1e-46, 1e-320, 1e-6):
        assert ask(temperature=temperature).choices[0].message.content == ask().choices[0].message.content


def test_a_stop_token_ends_the_answer_and_is_no_text(ask: Ask, server: ServerProcess) -> None:
    whole = ask(logprobs=True, top_logprobs=1, max_tokens=12, logit_bias={"60": 100})
    stopped = ask(max_tokens=12, logit_bias={"60": 100}, stop_token_ids=[60])
    assert whole.usage.completion_tokens == 12
    assert (stopped.usage.completion_tokens, stopped.choices[0].finish_reason) == (1, "stop")
    assert stopped.choices[0].message.content == ""


def test_a_stop_string_stays_in_the_output_if_asked_for(ask: Ask) -> None:
    whole = ask().choices[0].message.content or ""
    stop = whole[4:7]
    kept = ask(stop=stop, include_stop_str_in_output=True).choices[0].message.content
    assert kept == whole[: whole.index(stop)] + stop


def test_penalties_make_an_answer_that_repeats_itself_vary(ask: Ask) -> None:
    settings = {"max_tokens": 25, "logprobs": True, "ignore_eos": True, "logit_bias": {"50": 9}}
    plain = len(set(tokens_of(ask(**settings))))
    for penalty in ({"presence_penalty": 2.0}, {"frequency_penalty": 2.0}, {"repetition_penalty": 3.0}):
        assert len(set(tokens_of(ask(**settings, **penalty)))) > plain, penalty


@pytest.mark.parametrize(
    ("settings", "param"),
    [
        ({"logit_bias": {"100000": 1}}, "logit_bias"),
        ({"stop_token_ids": [100000]}, "stop_token_ids"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"min_tokens": 40}, "min_tokens"),
        ({"min_tokens": 10**20, "max_tokens": openai.omit}, "min_tokens"),
        ({"repetition_penalty": 1e-300}, "repetition_penalty"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(ask: Ask, settings: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        ask(**settings)
    assert refused.value.param == param
