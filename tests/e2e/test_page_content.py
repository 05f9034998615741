"""What answers and questions may hold: Markdown, formulas, code, reasoning, tool calls, files. Against a double of the service."""

from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.front_double import FrontDouble
from tests.e2e.page_driver import Watched, ask, enter_key, finished, press

# The smallest PNG: one black point.
PNG = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNkYAAAAAYAAjCB0C8AAAAASUVORK5CYII=")


@pytest.fixture
def watched(front: FrontDouble, open_page: Callable[..., Watched]) -> Watched:
    watched = open_page(front.url, permissions=["clipboard-read", "clipboard-write"])
    enter_key(watched.page, front.key)
    return watched


@pytest.fixture
def chat(watched: Watched) -> Page:
    return watched.page


def attach(page: Page, *files: Path) -> None:
    page.locator("main input[type=file]").set_input_files(list(files))


def test_markdown_formulas_and_code_are_drawn_and_html_is_not(watched: Watched) -> None:
    answer = finished(ask(watched.page, "Show me Markdown"))

    expect(answer.get_by_role("listitem")).to_have_count(3)
    expect(answer.get_by_role("table")).to_be_visible()
    expect(answer.locator(".katex").first).to_be_visible()
    expect(answer.locator(".katex-display")).to_have_count(1)
    expect(answer).to_contain_text("for $5")
    expect(answer.locator(".hljs-keyword").first).to_have_text("def")
    expect(answer).to_contain_text("<img src=x")
    # A picture would tell its server who reads; it is a link, as links are: apart, and telling nothing.
    expect(answer.get_by_role("img", name="a picture")).to_have_count(0)
    expect(answer.get_by_role("link", name="a picture")).to_have_attribute("rel", "noopener noreferrer")
    expect(answer.get_by_role("link", name="link", exact=True)).to_have_attribute("target", "_blank")
    assert watched.page.evaluate("window.injected") is None
    assert [url for url in watched.requests if "example.org" in url] == []
    assert watched.complaints == []


def test_code_is_copied_as_it_was_written(chat: Page) -> None:
    answer = finished(ask(chat, "Show me Markdown"))
    # "Copied" is shown for a moment only; here the moment does not pass.
    chat.clock.install()
    chat.clock.pause_at(datetime.now() + timedelta(seconds=1))
    press(answer, "Copy the code")
    expect(answer.get_by_role("button", name="Copied")).to_be_visible()
    copied = chat.evaluate("navigator.clipboard.readText()")
    assert copied.startswith("def greet(name: str) -> str:\n    return f")
    assert not copied.endswith("\n")


def test_reasoning_is_folded_away_and_tool_calls_are_shown(chat: Page) -> None:
    answer = finished(ask(chat, "Be thoughtful"))
    expect(answer.get_by_text("First I think.")).to_be_hidden()
    answer.get_by_text("Reasoning").click()
    expect(answer.get_by_text("First I think.")).to_be_visible()

    answer = finished(ask(chat, "Be handy"))
    expect(answer.get_by_text("The model calls weather")).to_be_visible()
    expect(answer).to_contain_text('"city": "Jinan"')
    expect(answer).to_contain_text("40 tokens")


def test_text_files_are_quoted_and_go_with_the_question(chat: Page, front: FrontDouble, tmp_path: Path) -> None:
    files = {"a.md": b"# Title\n", "b.bin": b"\xff\xfe\x00", "c.png": PNG, "d.txt": b"x" * 300_000}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    attach(chat, *(tmp_path / name for name in files))
    for words in ("b.bin is neither a text", "c.png: the models of this server read no images", "d.txt is larger"):
        expect(chat.get_by_role("alert").filter(has_text=words)).to_be_visible()

    finished(ask(chat, "Explain"))

    assert front.chats[-1]["messages"] == [{"role": "user", "content": "a.md\n```\n# Title\n```\n\nExplain"}]
    expect(chat.get_by_role("list", name="Files")).to_contain_text("a.md")


def test_images_go_with_the_question_where_the_service_reads_them(
    front: FrontDouble, open_page: Callable[..., Watched], tmp_path: Path
) -> None:
    front.config["images"] = True
    watched = open_page(front.url)
    enter_key(watched.page, front.key)
    (tmp_path / "a.png").write_bytes(PNG)
    attach(watched.page, tmp_path / "a.png")
    expect(watched.page.get_by_role("img", name="a.png")).to_be_visible()

    finished(ask(watched.page, "What is it?"))

    image, text = front.chats[-1]["messages"][0]["content"]
    assert text == {"type": "text", "text": "What is it?"}
    assert image["image_url"]["url"].startswith("data:image/png;base64,")
    assert watched.complaints == []


def test_tools_are_offered_to_the_model_once_they_are_a_list_of_functions(chat: Page, front: FrontDouble) -> None:
    tools = '[{"type": "function", "function": {"name": "weather"}}]'
    press(chat, "Settings")
    chat.get_by_label("Tools").fill(tools[:-1])
    expect(chat.get_by_text("This is no JSON list of functions")).to_be_visible()
    chat.get_by_label("Tools").fill(tools)
    press(chat, "Close")
    finished(ask(chat, "Be handy"))
    assert front.chats[-1]["tools"] == [{"type": "function", "function": {"name": "weather"}}]


def test_conversations_that_may_not_be_kept_are_lost_with_the_page_and_it_says_so(
    front: FrontDouble, open_page: Callable[..., Watched]
) -> None:
    front.config["history"] = False
    page = open_page(front.url).page
    enter_key(page, front.key)
    finished(ask(page, "Hello"))
    expect(page.get_by_text("keeps no conversations")).to_be_visible()
    assert page.evaluate("indexedDB.databases()") == []
