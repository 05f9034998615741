"""What the page shows when the service breaks. Against a double: a healthy service does none of this on demand."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.front_double import LONG, FrontDouble
from tests.e2e.page_driver import Watched, ask, enter_key, finished, press, text_of


@pytest.fixture
def chat(front: FrontDouble, open_page: Callable[..., Watched]) -> Page:
    page = open_page(front.url).page
    enter_key(page, front.key)
    return page


@pytest.mark.parametrize(
    ("question", "title", "detail", "kept"),
    [
        ("Be busy", "The service is not available", "The queue is full.", None),
        ("Be cut", "The answer was cut off", "", "You said: Be cut"),
        ("Be killed", "The answer was cut off", "network error", "You said: Be killed"),
        ("Be faulty", "The service failed", "The engine was restarted.", "You said: Be faulty"),
    ],
)
def test_broken_answer_says_so_keeps_its_text_and_can_be_retried(
    chat: Page, front: FrontDouble, question: str, title: str, detail: str, kept: str | None
) -> None:
    answer = ask(chat, question)
    expect(answer).to_contain_text(kept or title)
    front.read.set()
    alert = finished(answer).get_by_role("alert")
    expect(alert).to_contain_text(title)
    expect(alert).to_contain_text(detail)
    assert answer.get_attribute("data-status") == "failed"
    assert kept is None or text_of(answer) == kept

    front.broken = False
    alert.get_by_role("button", name="Try again").click()

    expect(answer).to_have_attribute("data-status", "done")
    expect(alert).to_have_count(0)
    assert text_of(answer) == f"You said: {question}"
    assert front.chats[-1]["messages"] == [{"role": "user", "content": question}]


def test_waiting_time_of_a_busy_server_is_shown(chat: Page) -> None:
    answer = finished(ask(chat, "Be busy"))
    expect(answer.get_by_role("alert")).to_contain_text("600 s of patience")
    expect(answer.get_by_role("alert")).to_contain_text("HTTP 503")
    expect(answer.get_by_role("button", name="Try again now (by itself in")).to_be_visible()


def test_question_is_asked_again_by_itself_when_the_named_time_is_over(chat: Page, front: FrontDouble) -> None:
    answer = ask(chat, "Be crowded for a moment")
    expect(answer).to_have_attribute("data-status", "done", timeout=60_000)
    assert text_of(answer) == "You said: Be crowded for a moment"
    assert len(front.chats) == 2


def test_question_is_not_asked_for_ever(chat: Page, front: FrontDouble) -> None:
    answer = ask(chat, "Be crowded")
    expect(answer.get_by_role("button", name="Try again", exact=True)).to_be_visible(timeout=60_000)
    assert len(front.chats) == 4


def test_stop_keeps_the_text_and_ends_the_work_of_the_server(chat: Page, front: FrontDouble) -> None:
    answer = ask(chat, "Be long")
    expect(answer).to_contain_text("word word")

    press(chat, "Stop")

    assert finished(answer).get_attribute("data-status") == "stopped"
    expect(answer).to_contain_text("Stopped")
    assert front.cancelled.wait(60)


def test_next_question_carries_the_conversation(chat: Page, front: FrontDouble) -> None:
    finished(ask(chat, "One"))
    finished(ask(chat, "Be cut"))
    finished(ask(chat, "Two"))
    contents = [turn["content"] for turn in front.chats[-1]["messages"]]
    assert contents == ["One", "You said: One", "Be cut", "You said: Be cut", "Two"]


def test_answer_goes_on_while_another_chat_is_open(chat: Page, front: FrontDouble) -> None:
    expect(ask(chat, "Be long")).to_contain_text("word word")

    press(chat, "New chat")

    expect(chat.get_by_role("article")).to_have_count(0)
    assert text_of(finished(ask(chat, "Hello"))) == "You said: Hello"
    assert front.chats[-1]["messages"] == [{"role": "user", "content": "Hello"}]
    chat.get_by_role("navigation").get_by_role("link", name="Be long").click()
    expect(chat.get_by_role("article")).to_have_attribute("aria-busy", "true")
    front.goes_on.set()
    assert text_of(finished(chat.get_by_role("article"))) == LONG.strip()
    assert not front.cancelled.is_set()


def test_length_limit_is_shown(chat: Page) -> None:
    expect(finished(ask(chat, "Be short"))).to_contain_text("reached its length limit")


def test_api_without_keys_asks_for_none(front: FrontDouble, open_page: Callable[..., Watched]) -> None:
    front.key_required = False
    front.config["keyRequired"] = False
    page = open_page(front.url).page
    assert text_of(finished(ask(page, "Hello"))) == "You said: Hello"
