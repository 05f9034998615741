"""The deployed page chats: a real browser, a real server, the real model, over TLS."""

from __future__ import annotations

import json
import re
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from fabric import Connection
from playwright.sync_api import Page, Request, Route, expect

from ops.inventory import Host
from tests.e2e.page_driver import REPO, Watched, ask, enter_key, finished, press, reload_with_key, shown, text_of

TUTOR = yaml.safe_load((REPO / "app/models/tutor/qa.yml").read_text())
ENGLISH = [pair for pair in TUTOR if pair["lang"] == "en"]
OPTIONS: dict[str, dict[str, object]] = {
    "desk-light-en": {"viewport": {"width": 1280, "height": 800}, "color_scheme": "light", "locale": "en-US"},
    "phone-dark-zh": {
        "viewport": {"width": 390, "height": 844},
        "color_scheme": "dark",
        "locale": "zh-CN",
        "has_touch": True,
        "device_scale_factor": 2,
    },
}
KILL = "sudo sh -c 'kill -9 $(systemctl show --value --property MainPID bedplate-inference.service)'"
SLOW = "bedplate-slow-engine.service"
SLOW_ENGINE = """\
engine=$(pgrep -f '[b]edplate_server.engine')
trap "kill -CONT $engine; exit 0" TERM
while kill -STOP $engine && sleep 0.5 && kill -CONT $engine; do sleep 0.01; done
"""
# Whether the page has written down a part of an answer.
KEPT = """() => new Promise((resolve) => {
    const open = indexedDB.open('bedplate')
    open.onsuccess = () => {
        const all = open.result.transaction('messages').objectStore('messages').getAll()
        all.onsuccess = () => {
            open.result.close()
            resolve(all.result.some((message) => message.status === 'growing' && message.content.length > 20))
        }
    }
})"""


@pytest.fixture
def chat(live_url: str, live_key: str, open_page: Callable[..., Watched]) -> Page:
    page = open_page(live_url).page
    enter_key(page, live_key)
    return page


def body_of(request: Request) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(request.post_data or "{}")
    return body


def make_answers_long(page: Page) -> None:
    """From now on the real service is asked for an answer of a thousand tokens."""

    def longer(route: Route) -> None:
        route.continue_(post_data={**body_of(route.request), "ignore_eos": True, "max_tokens": 900})

    page.route("**/v1/chat/completions", longer)


@contextmanager
def slow_service(host: Host) -> Iterator[Connection]:
    """Let the engine run for one moment in fifty: a long answer takes most of a minute, however fast the machine is."""
    with host.connection() as connection:
        connection.run(f"sudo systemd-run --quiet --collect --unit={SLOW} sh -c {shlex.quote(SLOW_ENGINE)}", hide=True)
        try:
            yield connection
        finally:
            connection.run(f"sudo systemctl stop {SLOW}", warn=True, hide=True)  # it ends with the engine, too


@pytest.mark.parametrize("look", OPTIONS)
def test_page_gives_the_tutors_exact_answer(
    look: str, live_url: str, live_key: str, open_page: Callable[..., Watched], screenshots: Path
) -> None:
    first, second = [pair for pair in TUTOR if pair["lang"] == look[-2:]][:2]
    watched = open_page(live_url, **OPTIONS[look])
    enter_key(watched.page, live_key)

    answer = finished(ask(watched.page, first["question"]))
    assert text_of(answer) == first["answer"]
    assert text_of(finished(ask(watched.page, second["question"]))) == second["answer"]

    watched.page.screenshot(path=screenshots / f"page-{look}.png")
    assert answer.get_attribute("data-status") == "done"
    expect(answer.get_by_role("contentinfo").or_(answer.locator("footer"))).to_contain_text(
        re.compile("tutor · [0-9]+ ")
    )
    assert watched.complaints == []
    assert [url for url in watched.requests if not url.startswith(f"{live_url}/")] == []


def test_question_is_edited_and_answered_again_and_every_version_outlives_a_reload(chat: Page, live_key: str) -> None:
    one, two = ENGLISH[:2]
    finished(ask(chat, one["question"]))
    press(chat.get_by_role("article"), "Answer again")
    expect(chat.get_by_role("article")).to_contain_text("2 of 2")
    finished(chat.get_by_role("article"))

    press(chat, "Edit the question")
    chat.get_by_label("New wording of the question").fill(two["question"])
    press(chat, "Ask this instead")
    finished(chat.get_by_role("article"))
    expect(chat.locator("[data-message]")).to_have_text([two["question"], two["answer"]])

    reload_with_key(chat, live_key)
    expect(chat.locator("[data-message]")).to_have_text([two["question"], two["answer"]])
    press(chat, "Version before")
    expect(chat.locator("[data-message]")).to_have_text([one["question"], one["answer"]])
    expect(chat.get_by_role("article")).to_contain_text("2 of 2")


def test_conversations_are_listed_found_renamed_deleted_and_brought_back(chat: Page, live_key: str) -> None:
    one, two = ENGLISH[:2]
    items = chat.get_by_role("navigation").get_by_role("link")
    for pair in (one, two):
        press(chat, "New chat")
        finished(ask(chat, pair["question"]))
    expect(items).to_have_text([two["question"], one["question"]])

    chat.get_by_role("searchbox").fill(one["answer"][:20].upper())
    expect(items).to_have_text([one["question"]])
    items.click()
    expect(chat.locator("[data-message]")).to_have_text([one["question"], one["answer"]])
    chat.get_by_role("searchbox").fill("")

    press(chat, f"More for “{re.escape(one['question'])}”")
    chat.get_by_role("menuitem", name="Rename").click()
    chat.get_by_label("New name").fill("The first")
    chat.get_by_label("New name").press("Enter")
    press(chat, f"More for “{re.escape(two['question'])}”")
    chat.get_by_role("menuitem", name="Delete").click()
    expect(items).to_have_text(["The first"])
    press(chat, "Undo")
    expect(items).to_have_count(2)

    reload_with_key(chat, live_key)
    expect(items).to_have_count(2)
    expect(items.filter(has_text="The first")).to_have_attribute("aria-current", "page")


def test_exported_conversations_are_read_by_another_browser(
    chat: Page, live_url: str, live_key: str, open_page: Callable[..., Watched], tmp_path: Path
) -> None:
    pair = ENGLISH[0]
    finished(ask(chat, pair["question"]))
    with chat.expect_download() as download:
        press(chat, "Export all conversations")
    download.value.save_as(tmp_path / "chats.json")

    other = open_page(live_url).page
    enter_key(other, live_key)
    other.get_by_label("Import conversations").and_(other.locator("input")).set_input_files(tmp_path / "chats.json")
    other.get_by_role("navigation").get_by_role("link", name=pair["question"]).click()
    expect(other.locator("[data-message]")).to_have_text([pair["question"], pair["answer"]])

    (tmp_path / "other.json").write_text("{}")
    other.get_by_label("Import conversations").and_(other.locator("input")).set_input_files(tmp_path / "other.json")
    expect(other.get_by_role("alert")).to_contain_text("other.json holds no conversations")


def test_stop_keeps_what_came_and_it_can_be_continued(chat: Page, live_host: Host) -> None:
    make_answers_long(chat)
    with slow_service(live_host):
        answer = ask(chat, ENGLISH[0]["question"])
        expect(answer.locator("[data-message]")).to_contain_text(re.compile(r"\w+ \w+"), timeout=60_000)
        press(chat, "Stop")
        assert finished(answer).get_attribute("data-status") == "stopped"

    before = text_of(answer)
    chat.unroute_all()
    press(answer, "Continue")
    expect(answer).to_have_attribute("data-status", "done", timeout=60_000)
    assert text_of(answer).startswith(before.split("\n")[0])


def test_reload_in_the_middle_of_an_answer_keeps_what_came(chat: Page, live_key: str, live_host: Host) -> None:
    make_answers_long(chat)
    with slow_service(live_host):
        ask(chat, ENGLISH[0]["question"])
        deadline = time.monotonic() + 120
        while not chat.evaluate(KEPT):
            assert time.monotonic() < deadline, "nothing of the answer was written down"
            chat.wait_for_timeout(50)
        reload_with_key(chat, live_key)
    chat.unroute_all()

    answer = chat.get_by_role("article")
    expect(answer.get_by_role("alert")).to_contain_text("The page was closed while the answer came")
    assert text_of(answer).startswith(ENGLISH[0]["answer"][:20])
    press(answer, "Try again")
    assert text_of(finished(answer)) == ENGLISH[0]["answer"]


def test_settings_go_into_the_question(chat: Page) -> None:
    press(chat, "Settings")
    chat.get_by_label("System prompt").fill("Be brief.")
    press(chat, "Creative")
    chat.get_by_label("Longest answer").fill("3")
    chat.get_by_label("Name of a preset").fill("Mine")
    press(chat, "Keep these values")
    expect(chat.get_by_role("button", name="Mine", exact=True)).to_have_attribute("aria-pressed", "true")
    press(chat, "Close")

    with chat.expect_request("**/v1/chat/completions") as request:
        answer = finished(ask(chat, ENGLISH[0]["question"]))
    body = body_of(request.value)
    assert body["messages"][0] == {"role": "system", "content": "Be brief."}
    assert (body["temperature"], body["top_p"], body["max_tokens"]) == (1.1, 0.95, 3)
    assert "seed" not in body
    expect(answer).to_contain_text("reached its length limit")
    expect(answer).to_contain_text("3 tokens")


def test_shortcuts_reach_everything_and_the_arrow_edits_the_last_question(chat: Page) -> None:
    finished(ask(chat, ENGLISH[0]["question"]))
    chat.get_by_role("main").get_by_role("textbox").press("ArrowUp")
    expect(chat.get_by_label("New wording of the question")).to_have_value(ENGLISH[0]["question"])
    chat.keyboard.press("Escape")
    chat.keyboard.press("Control+k")
    expect(chat.get_by_role("searchbox")).to_be_focused()
    chat.keyboard.press("Control+b")
    expect(chat.get_by_role("searchbox")).to_have_count(0)
    chat.keyboard.press("Control+/")
    expect(chat.get_by_role("dialog", name="Keyboard shortcuts")).to_be_visible()
    chat.keyboard.press("Escape")
    expect(chat.get_by_role("dialog")).to_have_count(0)
    chat.keyboard.press("Control+Shift+O")
    expect(chat.get_by_role("article")).to_have_count(0)
    expect(chat.get_by_role("main").get_by_role("textbox")).to_be_focused()


def test_page_refuses_a_wrong_key_with_the_servers_words(live_url: str, open_page: Callable[..., Watched]) -> None:
    watched = open_page(live_url)
    enter_key(watched.page, f"bp-00000000-{'0' * 64}")

    alert = watched.page.get_by_role("alert")
    alert.wait_for()

    assert "The key was not accepted" in alert.inner_text()
    assert "HTTP 401" in alert.inner_text()
    assert watched.page.get_by_label("API key").first.is_visible()


def test_key_is_gone_after_a_reload_unless_asked(chat: Page) -> None:
    chat.get_by_role("button", name="Forget the API key").wait_for()
    assert chat.evaluate("Object.values({...localStorage, ...sessionStorage}).filter((v) => v.includes('bp-'))") == []

    chat.reload()

    chat.get_by_label("API key").first.wait_for()


def test_too_long_a_question_is_refused_in_the_servers_words(chat: Page) -> None:
    answer = finished(ask(chat, "What is Bedplate? " * 600))
    alert = answer.get_by_role("alert")
    expect(alert).to_contain_text("The server rejected the request")
    expect(alert).to_contain_text("HTTP 400")
    expect(alert).to_contain_text("1024")


def test_model_that_is_gone_and_a_network_that_is_gone_are_told_apart(chat: Page) -> None:
    def ask_another(route: Route) -> None:
        route.continue_(post_data={**body_of(route.request), "model": "gone"})

    chat.route("**/v1/chat/completions", ask_another)
    gone = finished(ask(chat, "Hello"))
    expect(gone.get_by_role("alert")).to_contain_text("The server does not know this model or path")
    chat.unroute_all()

    chat.context.set_offline(True)
    press(gone, "Try again")
    expect(gone.get_by_role("alert")).to_contain_text("The server cannot be reached")
    chat.context.set_offline(False)
    press(gone, "Try again")
    expect(gone.get_by_role("alert")).to_have_count(0)
    assert finished(gone).get_attribute("data-status") == "done"


def test_answer_of_a_killed_service_is_shown_as_cut_and_asked_again(chat: Page, live_host: Host) -> None:
    make_answers_long(chat)
    with slow_service(live_host) as connection:
        answer = ask(chat, ENGLISH[0]["question"])
        expect(answer.locator("[data-message]")).to_contain_text(re.compile(r"\w+ \w+"))
        connection.run(KILL, hide=True, timeout=60)

    expect(answer.get_by_role("alert")).to_contain_text("The answer was cut off")
    chat.unroute_all()
    press(answer, "Try again")
    # The socket holds the question until the service is back.
    expect(answer).to_have_attribute("data-status", "done", timeout=120_000)
    assert shown(chat) == [ENGLISH[0]["question"], ENGLISH[0]["answer"]]
