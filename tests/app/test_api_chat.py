"""Chat answers over HTTP, with the official client: right, whole, and the same however many ask at once."""

from __future__ import annotations

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest
import torch
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.app.support.server import ServerProcess

QUESTIONS = ["你好", "hello there", "😀🎉 emoji?", "layer by layer " * 12, "1", "从裸机到聊天", "fox and dog", "é à ü"]


@pytest.fixture(scope="module")
def client(server: ServerProcess) -> openai.OpenAI:
    return server.openai()


@pytest.fixture(scope="module")
def expected(models: dict[str, Path]) -> Callable[[str, int], tuple[str, str, int]]:
    """Text, finish reason and completion tokens of a greedy answer, by model.generate alone."""
    words = AutoTokenizer.from_pretrained(models["llama"])
    model = AutoModelForCausalLM.from_pretrained(models["llama"], dtype=torch.float32)

    def answer(question: str, length: int) -> tuple[str, str, int]:
        turns = [{"role": "user", "content": question}]
        inputs = words.apply_chat_template(turns, add_generation_prompt=True, return_tensors="pt")
        output = model.generate(**inputs, max_new_tokens=length, do_sample=False)[0, inputs["input_ids"].shape[1] :]
        text = words.decode(output, skip_special_tokens=True).rstrip("\ufffd")
        return text, "stop" if output[-1] == words.eos_token_id else "length", len(output)

    return answer


def ask(client: openai.OpenAI, question: str, **options: Any) -> ChatCompletion:
    settings: dict[str, Any] = {"temperature": 0, "max_tokens": 40, **options}
    return client.chat.completions.create(model="llama", messages=[{"role": "user", "content": question}], **settings)


def stream(client: openai.OpenAI, question: str, **options: Any) -> list[ChatCompletionChunk]:
    return list(ask(client, question, stream=True, **options))


def text_of(chunks: list[ChatCompletionChunk], index: int = 0) -> str:
    deltas = [choice.delta.content for chunk in chunks for choice in chunk.choices if choice.index == index]
    return "".join(delta or "" for delta in deltas)


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_greedy_answer_is_what_generate_gives(
    client: openai.OpenAI, expected: Callable[[str, int], tuple[str, str, int]], question: str
) -> None:
    answer = ask(client, question)
    choice = answer.choices[0]
    assert answer.usage is not None
    assert (choice.message.content, choice.finish_reason, answer.usage.completion_tokens) == expected(question, 40)
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert (answer.object, answer.model, choice.message.role) == ("chat.completion", "llama", "assistant")
    assert answer.id.startswith("chatcmpl-")


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_streamed_answer_adds_up_to_the_plain_one(client: openai.OpenAI, question: str) -> None:
    plain = ask(client, question)
    chunks = stream(client, question, stream_options={"include_usage": True})
    assert text_of(chunks) == plain.choices[0].message.content
    assert "\ufffd" not in "".join(text_of([chunk])[-1:] for chunk in chunks), "half a character was sent"
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [choice.finish_reason for chunk in chunks for choice in chunk.choices][-1] == plain.choices[0].finish_reason
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None and plain.usage is not None
    assert chunks[-1].usage.completion_tokens == plain.usage.completion_tokens
    assert chunks[-1].usage.prompt_tokens == plain.usage.prompt_tokens
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert len({(chunk.id, chunk.created, chunk.model, chunk.object) for chunk in chunks}) == 1


def test_usage_is_streamed_only_when_asked_for(client: openai.OpenAI) -> None:
    chunks = stream(client, "hello")
    assert all(chunk.choices for chunk in chunks)
    assert all("usage" not in chunk.model_fields_set for chunk in chunks)


def test_sixteen_at_once_get_what_each_would_get_alone(
    client: openai.OpenAI, expected: Callable[[str, int], tuple[str, str, int]]
) -> None:
    """Twice as many as there are slots; plain and streamed, greedy and sampled, of different lengths."""
    source = random.Random(1)
    jobs = [(source.choice(QUESTIONS), source.randrange(1, 60), number % 4) for number in range(48)]
    alone = {
        (question, length): ask(client, question, max_tokens=length, temperature=1.1, seed=length)
        for question, length, kind in jobs
        if kind == 2
    }

    def one(job: tuple[str, int, int]) -> tuple[str | None, str | None]:
        question, length, kind = job
        if kind == 1:
            return text_of(stream(client, question, max_tokens=length)), expected(question, length)[0]
        if kind == 2:
            answer = ask(client, question, max_tokens=length, temperature=1.1, seed=length)
            return answer.choices[0].message.content, alone[question, length].choices[0].message.content
        return ask(client, question, max_tokens=length).choices[0].message.content, expected(question, length)[0]

    with ThreadPoolExecutor(16) as pool:
        for job, (got, wanted) in zip(jobs, pool.map(one, jobs), strict=True):
            assert got == wanted, job


def test_a_seed_repeats_and_another_one_does_not(client: openai.OpenAI) -> None:
    def sampled(**options: Any) -> str | None:
        return ask(client, "hello", temperature=1.5, **options).choices[0].message.content

    assert sampled(seed=7) == sampled(seed=7)
    assert len({sampled(seed=seed) for seed in range(5)}) > 1
    assert len({sampled() for _ in range(5)}) > 1


def test_top_k_one_and_a_tiny_top_p_are_greedy(client: openai.OpenAI) -> None:
    greedy = ask(client, "fox").choices[0].message.content
    assert ask(client, "fox", temperature=2, extra_body={"top_k": 1}).choices[0].message.content == greedy
    assert ask(client, "fox", temperature=2, top_p=1e-6).choices[0].message.content == greedy


def test_n_choices_are_independent_and_counted_together(client: openai.OpenAI) -> None:
    answer = ask(client, "hello", n=5, temperature=1.5, seed=3)
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3, 4]
    assert len({choice.message.content for choice in answer.choices}) > 1
    single = ask(client, "hello", temperature=1.5, seed=3)
    assert answer.choices[0].message.content == single.choices[0].message.content
    assert answer.usage is not None and single.usage is not None
    assert answer.usage.prompt_tokens == single.usage.prompt_tokens
    chunks = stream(client, "hello", n=5, temperature=1.5, seed=3)
    for choice in answer.choices:
        assert text_of(chunks, choice.index) == choice.message.content


def test_stop_strings_end_the_answer_before_them(client: openai.OpenAI) -> None:
    whole = ask(client, "layer by layer").choices[0].message.content or ""
    stop = whole[6:9]
    for answer in (ask(client, "layer by layer", stop=stop), ask(client, "layer by layer", stop=["never", stop])):
        assert answer.choices[0].message.content == whole[: whole.index(stop)]
        assert answer.choices[0].finish_reason == "stop"
    chunks = stream(client, "layer by layer", stop=stop)
    assert text_of(chunks) == whole[: whole.index(stop)]
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_max_completion_tokens_is_the_same_limit(client: openai.OpenAI) -> None:
    limited = [ask(client, "1", max_tokens=5), ask(client, "1", max_tokens=None, max_completion_tokens=5)]
    assert [answer.usage.completion_tokens for answer in limited if answer.usage] == [5, 5]


def test_usage_says_how_much_of_the_prompt_was_known(client: openai.OpenAI) -> None:
    question = "what is never asked elsewhere " * 4

    def cached(answer: ChatCompletion | ChatCompletionChunk) -> int:
        assert answer.usage is not None and answer.usage.prompt_tokens_details is not None
        return answer.usage.prompt_tokens_details.cached_tokens or 0

    first = ask(client, question)
    again = ask(client, question, n=2)
    streamed = stream(client, question, stream_options={"include_usage": True})[-1]
    assert first.usage is not None
    # A prompt's last token is always read: its answer comes of it.
    assert cached(first) < first.usage.prompt_tokens - 1 == cached(again) == cached(streamed)


def test_conversations_with_all_roles_are_understood(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="llama",
        messages=[
            {"role": "developer", "content": "be brief"},
            {"role": "user", "content": [{"type": "text", "text": "hi"}]},
            {"role": "assistant", "content": "yes"},
            {"role": "user", "content": "and?"},
        ],
        max_tokens=3,
    )
    assert answer.usage is not None
    assert answer.usage.prompt_tokens > 10


def test_the_async_client_streams_too(server: ServerProcess) -> None:
    import asyncio

    import httpx2

    async def streamed() -> str:
        transport = httpx2.AsyncHTTPTransport(uds=str(server.socket))
        http = httpx2.AsyncClient(transport=transport)
        async with openai.AsyncOpenAI(base_url="http://bedplate/v1", api_key="none", http_client=http) as client:
            chunks = await client.chat.completions.create(
                model="llama",
                messages=[{"role": "user", "content": "hello"}],
                max_tokens=20,
                temperature=0,
                stream=True,
            )
            return "".join([chunk.choices[0].delta.content or "" async for chunk in chunks])

    assert asyncio.run(streamed()) == ask(server.openai(), "hello", max_tokens=20).choices[0].message.content
