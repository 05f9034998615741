"""The page can be used by everybody: axe finds nothing, in both languages, light and dark, on a phone and on a desk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.front_double import FrontDouble
from tests.e2e.page_driver import REPO, Watched, ask, enter_key, finished, press

AXE = REPO / ".bedplate/web-work/tree/node_modules/axe-core/axe.min.js"
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]
# Two frames, for what moves may only be about to; and again, for one movement may start another.
STILL = """async () => {
    const frame = () => new Promise(requestAnimationFrame)
    for (;;) {
        await frame()
        await frame()
        const moving = document.getAnimations().filter((a) =>
            a.playState === 'running' && a.effect.getTiming().iterations !== Infinity)
        if (moving.length === 0) return
        await Promise.all(moving.map((a) => a.finished.catch(() => null)))
    }
}"""
SIZES = {"desk": {"width": 1280, "height": 800}, "phone": {"width": 390, "height": 844}}


def violations(page: Page) -> list[str]:
    """What axe holds against the page as it is now: rule, and the elements that break it."""
    options = {"runOnly": {"type": "tag", "values": RULES}, "resultTypes": ["violations"]}
    found: list[dict[str, Any]] = page.evaluate("(options) => axe.run(options).then((r) => r.violations)", options)
    return [f"{rule['id']}: {node['html'][:200]} {node['failureSummary']}" for rule in found for node in rule["nodes"]]


def settled(page: Page) -> None:
    """Wait until nothing moves: a colour that is on its way has no contrast to be measured."""
    page.evaluate(STILL)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("locale", ["en-US", "zh-CN"])
def test_axe_finds_no_violation_on_any_part_of_the_page(
    locale: str, scheme: str, front: FrontDouble, open_page: Callable[..., Watched], screenshots: Path
) -> None:
    front.config["suggestions"] = {"en": ["What is Bedplate?"], "zh": ["Bedplate 是什么？"]}
    watched = open_page(front.url, locale=locale, color_scheme=scheme)
    page = watched.page
    page.evaluate(AXE.read_text())
    found: list[str] = []

    def look(part: str) -> None:
        for size, viewport in SIZES.items():
            page.set_viewport_size(viewport)  # type: ignore[arg-type]
            settled(page)
            page.screenshot(path=screenshots / f"{part}-{locale[:2]}-{scheme}-{size}.png")
            found.extend(f"{part} {size}: {violation}" for violation in violations(page))

    look("key")
    enter_key(page, front.key)
    expect(page.get_by_role("main").get_by_role("textbox")).to_be_enabled()
    look("empty")
    finished(ask(page, "Be thoughtful"))
    answer = finished(ask(page, "Show me Markdown"))
    expect(answer.locator(".katex").first).to_be_visible()
    expect(answer.locator(".hljs-keyword").first).to_be_visible()
    look("answer")
    finished(ask(page, "Be cut"))
    finished(ask(page, "Be handy"))
    look("failure")
    page.set_viewport_size(SIZES["desk"])  # type: ignore[arg-type]
    press(page, "Settings", "设置")
    expect(page.get_by_role("dialog")).to_be_visible()
    look("settings")
    page.keyboard.press("Escape")
    page.set_viewport_size(SIZES["phone"])  # type: ignore[arg-type]
    press(page, "List of conversations", "对话列表")
    expect(page.get_by_role("dialog")).to_be_visible()
    settled(page)
    found.extend(f"list: {violation}" for violation in violations(page))

    page.evaluate("document.querySelector('dialog').append(document.createElement('img'))")
    assert violations(page) != [], "axe does not look"
    assert found == []
    assert watched.complaints == []
