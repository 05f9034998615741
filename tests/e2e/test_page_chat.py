"""The deployed page chats: a real browser, a real server, the real model, over TLS."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.e2e.page_driver import REPO, Watched, ask, enter_key, finished, text_of

TUTOR = yaml.safe_load((REPO / "app/models/tutor/qa.yml").read_text())
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


@pytest.mark.parametrize("look", OPTIONS)
def test_page_gives_the_tutors_exact_answer(
    look: str, live_url: str, live_key: str, open_page: Callable[..., Watched], screenshots: Path
) -> None:
    pair = next(pair for pair in TUTOR if pair["lang"] == look[-2:])
    watched = open_page(live_url, **OPTIONS[look])
    enter_key(watched.page, live_key)

    answer = finished(ask(watched.page, pair["question"]))

    watched.page.screenshot(path=screenshots / f"page-{look}.png")
    assert text_of(answer) == pair["answer"]
    assert answer.get_attribute("data-status") == "success"
    assert watched.complaints == []
    assert [url for url in watched.requests if not url.startswith(f"{live_url}/")] == []


def test_page_refuses_a_wrong_key_with_the_servers_words(live_url: str, open_page: Callable[..., Watched]) -> None:
    watched = open_page(live_url)
    enter_key(watched.page, f"bp-00000000-{'0' * 64}")

    alert = watched.page.get_by_role("alert")
    alert.wait_for()

    assert "The key was not accepted" in alert.inner_text()
    assert "HTTP 401" in alert.inner_text()
    assert watched.page.get_by_label("API key").first.is_visible()


def test_key_is_gone_after_a_reload_unless_asked(
    live_url: str, live_key: str, open_page: Callable[..., Watched]
) -> None:
    page = open_page(live_url).page
    enter_key(page, live_key)
    page.get_by_role("button", name="Forget the API key").wait_for()
    assert page.evaluate("Object.values({...localStorage, ...sessionStorage}).filter((v) => v.startsWith('bp-'))") == []

    page.reload()

    page.get_by_label("API key").first.wait_for()
