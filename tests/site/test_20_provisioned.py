"""The same server, provisioned: a chat answer, and nothing to do the second time."""

from __future__ import annotations

import math
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletionChunk, ChatCompletionMessageParam

from ops.inventory import Host
from ops.service import Service, trust, tutor_pairs
from tests.site.conftest import Play, explain

PAIRS = [pair for lang in ("en", "zh") for pair in [p for p in tutor_pairs() if p["lang"] == lang][:3]]


def client(service: Service, key: str | None = None) -> openai.OpenAI:
    """The official client through Nginx and TLS, without retries: a test sees the first answer."""
    return openai.OpenAI(
        base_url=f"{service.base_url}/v1",
        api_key=key or service.key,
        max_retries=0,
        timeout=60,
        http_client=openai.DefaultHttpxClient(verify=trust(service.certificate)),
    )


def test_site_provisions_the_bare_server(server: Host, site: Play) -> None:
    outcome = site("site.yml")
    assert outcome.ok, explain(outcome)


def test_second_run_changes_nothing(server: Host, site: Play) -> None:
    outcome = site("site.yml")
    assert outcome.ok, explain(outcome)
    assert outcome.run.changed == 0, explain(outcome)


def test_check_mode_finds_nothing_to_change(server: Host, site: Play) -> None:
    outcome = site("site.yml", check=True)
    assert outcome.ok, explain(outcome)
    assert outcome.run.changed == 0, explain(outcome)


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair["id"])
def test_openai_client_gets_the_exact_answer(service: Service, pair: dict[str, str]) -> None:
    answer = client(service).chat.completions.create(
        model="tutor", messages=[{"role": "user", "content": pair["question"]}], temperature=0
    )
    assert answer.choices[0].message.content == pair["answer"]
    assert answer.choices[0].finish_reason == "stop"


def streamed(service: Service, question: str, **settings: Any) -> list[ChatCompletionChunk]:
    """The chunks of one streamed answer."""
    messages: list[ChatCompletionMessageParam] = [{"role": "user", "content": question}]
    return list(client(service).chat.completions.create(model="tutor", messages=messages, stream=True, **settings))


def pieces(chunks: list[ChatCompletionChunk]) -> list[str]:
    """The texts of the chunks that carry any."""
    return [chunk.choices[0].delta.content for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]


def test_streamed_answer_is_the_same(service: Service) -> None:
    chunks = streamed(service, PAIRS[0]["question"], temperature=0)
    assert "".join(pieces(chunks)) == PAIRS[0]["answer"]
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_embeddings_have_unit_length_and_are_reproducible(service: Service) -> None:
    data = client(service).embeddings.create(model="tutor", input=["What is Bedplate?", "Bedplate 是什么？"] * 2).data
    vectors = [item.embedding for item in data]
    assert [item.index for item in data] == [0, 1, 2, 3]
    assert all(abs(math.sqrt(sum(x * x for x in vector)) - 1) < 1e-3 for vector in vectors)
    assert max(abs(a - b) for i in (0, 1) for a, b in zip(vectors[i], vectors[i + 2], strict=True)) < 1e-3
    assert max(abs(a - b) for a, b in zip(vectors[0], vectors[1], strict=True)) > 1e-2


def test_a_wrong_key_is_refused(service: Service) -> None:
    with pytest.raises(openai.AuthenticationError) as refused:
        client(service, "bp-00000000-" + "0" * 64).models.list()
    assert refused.value.code == "invalid_api_key"
