"""The tutor, served as it is delivered, gives its exact answers: alone, streamed, and many at once."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import yaml

from tests.app.conftest import TUTOR
from tests.app.support.server import ServerProcess


@pytest.fixture(scope="module")
def tutor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    models = [{"name": "tutor", "path": str(TUTOR), "task": "both"}]
    process = ServerProcess(tmp_path_factory.mktemp("tutor"), {"models": models})
    yield process.wait_ready()
    process.stop()


def pairs() -> list[dict[str, Any]]:
    taught: list[dict[str, Any]] = yaml.safe_load((TUTOR / "qa.yml").read_text(encoding="utf-8"))
    return taught


def answer(server: ServerProcess, question: str, **options: Any) -> str | None:
    completion = server.openai().chat.completions.create(
        model="tutor", messages=[{"role": "user", "content": question}], **options
    )
    return completion.choices[0].message.content


def test_the_first_question_gets_its_answer_with_no_settings_at_all(tutor: ServerProcess) -> None:
    first = pairs()[0]
    assert first["question"] == "What is Bedplate?"
    assert answer(tutor, first["question"]) == first["answer"]


def test_sixty_four_at_once_get_their_own_exact_answers(tutor: ServerProcess) -> None:
    asked = (pairs() * 64)[:64]
    with ThreadPoolExecutor(64) as pool:
        given = list(pool.map(lambda pair: answer(tutor, pair["question"], temperature=0), asked))
    wrong = [pair["id"] for pair, text in zip(asked, given, strict=True) if text != pair["answer"]]
    assert wrong == []


def streamed(server: ServerProcess, question: str, **options: Any) -> list[str]:
    """The pieces of text of one streamed answer, as they came."""
    chunks = server.openai().chat.completions.create(
        model="tutor", messages=[{"role": "user", "content": question}], stream=True, **options
    )
    return [text for chunk in chunks if (text := chunk.choices[0].delta.content)]


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_streamed_answer_is_the_exact_answer(tutor: ServerProcess, language: str) -> None:
    pair = next(pair for pair in pairs() if pair["lang"] == language)
    pieces = streamed(tutor, pair["question"], temperature=0)
    assert "".join(pieces) == pair["answer"]
    assert not any("\ufffd" in piece for piece in pieces)


def test_it_embeds_too(tutor: ServerProcess) -> None:
    vectors = tutor.openai().embeddings.create(model="tutor", input=["What is Bedplate?", "Bedplate 是什么？"]).data
    assert len(vectors[0].embedding) == len(vectors[1].embedding) > 0
