"""Plain completions: all forms of prompts, echo, several choices, the best of several, streams."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
import torch
from openai.types import Completion
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.app.conftest import StartServer
from tests.app.support.server import ServerProcess

PROMPTS = ["hello", "你好，世界", "layer by layer", "😀"]


@pytest.fixture(scope="module")
def client(server: ServerProcess) -> openai.OpenAI:
    return server.openai()


def complete(client: openai.OpenAI, prompt: Any, **options: Any) -> Completion:
    settings: dict[str, Any] = {"temperature": 0, "max_tokens": 24, **options}
    return client.completions.create(model="llama", prompt=prompt, **settings)


def streamed(client: openai.OpenAI, prompt: Any, **options: Any) -> dict[int, tuple[str, str | None]]:
    texts: dict[int, tuple[str, str | None]] = {}
    for chunk in complete(client, prompt, stream=True, **options):
        for choice in chunk.choices:
            text, _ = texts.get(choice.index, ("", None))
            texts[choice.index] = (text + choice.text, choice.finish_reason)
    return texts


def test_a_greedy_completion_is_what_generate_gives(client: openai.OpenAI, models: dict[str, Path]) -> None:
    words = AutoTokenizer.from_pretrained(models["llama"])
    model = AutoModelForCausalLM.from_pretrained(models["llama"], dtype=torch.float32)
    for prompt in PROMPTS:
        inputs = words(prompt, return_tensors="pt")
        output = model.generate(**inputs, max_new_tokens=24, do_sample=False)[0, inputs["input_ids"].shape[1] :]
        answer = complete(client, prompt)
        assert answer.choices[0].text == words.decode(output, skip_special_tokens=True).rstrip("\ufffd")
        assert answer.usage is not None
        assert answer.usage.prompt_tokens == inputs["input_ids"].shape[1]
        assert (answer.object, answer.id.startswith("cmpl-")) == ("text_completion", True)


def test_every_form_of_prompt_gives_the_same(client: openai.OpenAI, models: dict[str, Path]) -> None:
    words = AutoTokenizer.from_pretrained(models["llama"])
    single = [complete(client, prompt).choices[0].text for prompt in PROMPTS]
    ids = [words(prompt)["input_ids"] for prompt in PROMPTS]
    for form in (PROMPTS, ids):
        answer = complete(client, form)
        assert [choice.text for choice in answer.choices] == single
        assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
        assert answer.usage is not None and answer.usage.prompt_tokens == sum(map(len, ids))
    assert complete(client, ids[0]).choices[0].text == single[0]


def test_streams_add_up_to_plain_answers(client: openai.OpenAI) -> None:
    plain = complete(client, PROMPTS, n=2, temperature=1, seed=4)
    chunks = streamed(client, PROMPTS, n=2, temperature=1, seed=4)
    assert {choice.index: (choice.text, choice.finish_reason) for choice in plain.choices} == chunks
    assert len(chunks) == 8
    assert len({chunks[0], chunks[1]}) == 2


def test_sixteen_at_once_get_what_each_would_get_alone(client: openai.OpenAI) -> None:
    alone = {prompt: complete(client, prompt).choices[0].text for prompt in PROMPTS}
    with ThreadPoolExecutor(16) as pool:
        jobs = [PROMPTS[number % 4] for number in range(32)]
        for prompt, answer in zip(jobs, pool.map(lambda one: complete(client, one), jobs), strict=True):
            assert answer.choices[0].text == alone[prompt]


def test_echo_begins_with_the_prompt(client: openai.OpenAI, models: dict[str, Path]) -> None:
    bare = complete(client, PROMPTS[:2])
    ids = [AutoTokenizer.from_pretrained(models["llama"])(prompt)["input_ids"] for prompt in PROMPTS[:2]]
    for form in (PROMPTS[:2], ids):
        answer = complete(client, form, echo=True)
        wanted = [prompt + choice.text for prompt, choice in zip(PROMPTS, bare.choices, strict=False)]
        assert [choice.text for choice in answer.choices] == wanted
        parts = streamed(client, form, echo=True)
        assert [parts[index][0] for index in range(2)] == wanted


def test_logprobs_have_the_completions_shape(client: openai.OpenAI) -> None:
    answer = complete(client, "hello", logprobs=2, max_tokens=6)
    shown = answer.choices[0].logprobs
    assert shown is not None and shown.tokens is not None and shown.token_logprobs is not None
    assert len(shown.tokens) == len(shown.token_logprobs) == len(shown.top_logprobs or []) == 6
    assert shown.text_offset is not None and shown.text_offset[0] == 0
    assert all(value <= 0 for value in shown.token_logprobs)
    assert all(len(one) <= 3 for one in shown.top_logprobs or [])
    pieces = complete(client, "hello", logprobs=2, max_tokens=6, stream=True)
    tokens = [
        token
        for chunk in pieces
        for choice in chunk.choices
        if choice.logprobs
        for token in choice.logprobs.tokens or []
    ]
    assert tokens == shown.tokens


@pytest.mark.parametrize("prompt", ["hello, layer by layer " * 12, "你好，世界 😀"])
def test_echoed_logprobs_are_the_models_own(client: openai.OpenAI, models: dict[str, Path], prompt: str) -> None:
    """Asked twice: what is stored of a prompt must not spoil it."""
    ids = AutoTokenizer.from_pretrained(models["llama"])(prompt)["input_ids"]
    model = AutoModelForCausalLM.from_pretrained(models["llama"], dtype=torch.float32)
    wanted = model(torch.tensor([ids])).logits[0].detach().log_softmax(dim=-1)
    for form in (prompt, ids):
        answer = complete(client, form, echo=True, logprobs=3, max_tokens=4).choices[0]
        shown = answer.logprobs
        assert shown is not None and shown.token_logprobs is not None and shown.top_logprobs is not None
        assert shown.token_logprobs[0] is None and shown.top_logprobs[0] is None
        own = [float(wanted[place, token]) for place, token in enumerate(ids[1:])]
        assert shown.token_logprobs[1 : len(ids)] == pytest.approx(own, abs=1e-3)
        best = [float(row.max()) for row in wanted[:-1]]
        assert [max(one.values()) for one in shown.top_logprobs[1 : len(ids)]] == pytest.approx(best, abs=1e-3)
        assert len(shown.tokens or []) == len(shown.text_offset or []) == len(ids) + 4
        if prompt.isascii():
            for token, offset in zip(shown.tokens or [], shown.text_offset or [], strict=True):
                assert answer.text.startswith(token.rstrip("\ufffd"), offset)


def test_streamed_echoes_have_the_same_logprobs(client: openai.OpenAI) -> None:
    settings: dict[str, Any] = {"echo": True, "logprobs": 2, "max_tokens": 5, "n": 2, "temperature": 1, "seed": 3}
    plain = complete(client, PROMPTS[:2], **settings)
    found: dict[int, list[Any]] = {}
    for chunk in complete(client, PROMPTS[:2], stream=True, **settings):
        for choice in chunk.choices:
            if choice.logprobs:
                values = [value and round(value, 3) for value in choice.logprobs.token_logprobs or []]
                found.setdefault(choice.index, []).extend(zip(choice.logprobs.tokens or [], values, strict=True))
    for choice in plain.choices:
        assert choice.logprobs is not None
        values = [value and round(value, 3) for value in choice.logprobs.token_logprobs or []]
        assert found[choice.index] == list(zip(choice.logprobs.tokens or [], values, strict=True))


def test_the_best_of_several_are_the_likeliest(client: openai.OpenAI) -> None:
    settings: dict[str, Any] = {"temperature": 1.5, "seed": 11, "max_tokens": 8, "logprobs": 0}
    everyone = complete(client, "fox", n=6, **settings)
    best = complete(client, "fox", n=2, best_of=6, **settings)
    means = sorted(
        (sum(c.logprobs.token_logprobs) / len(c.logprobs.token_logprobs) for c in everyone.choices), reverse=True
    )
    found = [sum(c.logprobs.token_logprobs) / len(c.logprobs.token_logprobs) for c in best.choices]
    assert found == pytest.approx(means[:2], abs=1e-3)
    assert best.usage is not None and everyone.usage is not None
    assert best.usage.completion_tokens == everyone.usage.completion_tokens


def test_sixteen_tokens_unless_said_otherwise(client: openai.OpenAI) -> None:
    answer = client.completions.create(model="llama", prompt="hello", temperature=0, extra_body={"ignore_eos": True})
    assert answer.usage is not None and answer.usage.completion_tokens == 16


def test_usage_so_far_is_in_every_chunk_if_asked_for(client: openai.OpenAI) -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    chunks = list(complete(client, "hello", stream=True, stream_options=options))
    counts = [chunk.usage.completion_tokens for chunk in chunks if chunk.usage]
    assert len(counts) == len(chunks)
    assert counts == sorted(counts)
    assert chunks[-1].choices == []


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": None}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [[]]}, "prompt[0]"),
        ({"prompt": [1, "a"]}, "prompt[0]"),
        ({"prompt": [400]}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": ["x"] * 129}, "prompt"),
        ({"suffix": "end"}, "suffix"),
        ({"n": 3, "best_of": 2}, "best_of"),
        ({"best_of": 2, "stream": True}, "best_of"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 1000}, "prompt"),
        ({"messages": []}, "messages"),
        ({"tools": [{}]}, "tools"),
        ({"stream_options": {}}, "stream_options"),
        ({"logprobs": 21}, "logprobs"),
    ],
)
def test_what_is_not_served_is_refused_by_name(server: ServerProcess, fields: dict[str, Any], param: str) -> None:
    http: httpx2.Client = server.http()
    response = http.post("/v1/completions", json={"model": "llama", "prompt": "hi", "max_tokens": 2, **fields})
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)


def test_a_model_without_a_chat_template_continues_texts_and_nothing_else(
    start_server: StartServer, models: dict[str, Path], tmp_path: Path, client: openai.OpenAI
) -> None:
    base = shutil.copytree(models["llama"], tmp_path / "base", ignore=shutil.ignore_patterns("chat_template.jinja"))
    served = start_server({"models": [{"name": "llama", "path": str(base)}]}).wait_ready()
    assert complete(served.openai(), "hello").choices[0].text == complete(client, "hello").choices[0].text
    assert served.http().get("/v1/models/llama").json()["task"] == "completion"
    with pytest.raises(openai.BadRequestError) as refused:
        served.openai().chat.completions.create(model="llama", messages=[{"role": "user", "content": "hello"}])
    assert (refused.value.code, refused.value.param) == ("model_not_supported", "model")
