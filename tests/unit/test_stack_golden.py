"""Explanations as people read them, word for word.

After a wanted change: .venv/bin/python -m tests.unit.test_stack_golden writes golden.txt anew; read the difference.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from ops.resolve import answer, questions_of
from plugins.module_utils.stack import Decision
from plugins.module_utils.stack.explain import LINES, lines

FOLDER = Path(__file__).resolve().parent / "data" / "stack"
QUESTIONS = {question.id: question for question in questions_of(FOLDER / "cases.yml")}


def told(name: str) -> list[str]:
    decision = answer(QUESTIONS[name])
    assert isinstance(decision, Decision), decision
    return lines(decision)


def golden() -> dict[str, list[str]]:
    blocks = (FOLDER / "golden.txt").read_text(encoding="utf-8").split("\n\n")
    return {name.strip("[]"): rest for name, *rest in (block.strip().splitlines() for block in blocks)}


@pytest.mark.parametrize("name", QUESTIONS)
def test_the_explanation_is_the_one_that_was_read_and_agreed(name: str | None) -> None:
    assert name and told(name) == golden()[name]


@pytest.mark.parametrize("name", QUESTIONS)
def test_the_explanation_is_at_most_ten_lines(name: str | None) -> None:
    assert name and len(told(name)) <= LINES == 10


def test_enough_combinations_are_kept() -> None:
    assert len(QUESTIONS) >= 30 and set(golden()) == set(QUESTIONS)


if __name__ == "__main__":
    text = "\n\n".join("\n".join([f"[{name}]", *told(str(name))]) for name in QUESTIONS)
    (FOLDER / "golden.txt").write_text(text + "\n", encoding="utf-8")
