"""The same server, provisioned: a chat answer, and nothing to do the second time."""

from __future__ import annotations

import openai
import pytest
from openai.types.chat import ChatCompletionChunk

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


def test_streamed_answer_is_the_same_and_comes_in_pieces(service: Service) -> None:
    pair = PAIRS[0]
    chunks: list[ChatCompletionChunk] = list(
        client(service).chat.completions.create(
            model="tutor", messages=[{"role": "user", "content": pair["question"]}], temperature=0, stream=True
        )
    )
    pieces = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]
    assert "".join(pieces) == pair["answer"]
    assert len(pieces) > 3
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_embeddings_of_a_question_and_its_paraphrase_are_near(service: Service) -> None:
    data = client(service).embeddings.create(
        model="tutor", input=["What is Bedplate?", "what is bedplate", "Where is the log file?"]
    ).data  # fmt: skip
    same, other = (sum(a * b for a, b in zip(data[0].embedding, data[i].embedding, strict=True)) for i in (1, 2))
    assert same > other


def test_a_wrong_key_is_refused(service: Service) -> None:
    with pytest.raises(openai.AuthenticationError) as refused:
        client(service, "bp-00000000-" + "0" * 64).models.list()
    assert refused.value.code == "invalid_api_key"
