"""The page as a person uses it: one function per thing that they do or see. Finds everything by role and name."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from playwright.sync_api import Locator, Page, expect

REPO = Path(__file__).parents[2]
# A database reads what was written before, so the writing is over once it has read.
WRITTEN = """() => new Promise((resolve) => {
    const open = indexedDB.open('bedplate')
    open.onsuccess = () => {
        const reading = open.result.transaction([...open.result.objectStoreNames])
        for (const name of open.result.objectStoreNames) reading.objectStore(name).count()
        reading.oncomplete = () => resolve(open.result.close())
    }
})"""


@dataclass
class Watched:
    """A page, with everything that a browser's console holds against it and every address that it asked."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


def enter_key(page: Page, key: str) -> None:
    page.get_by_label(re.compile("API key|API 密钥")).first.fill(key)
    page.get_by_role("button", name=re.compile("^(Start|开始)$")).click()


def ask(page: Page, question: str) -> Locator:
    """Ask and return the answer that belongs to the question, which may still be growing."""
    answers = page.get_by_role("article")
    box = page.get_by_role("main").get_by_role("textbox")
    expect(box).to_be_enabled()
    before = answers.count()
    box.fill(question)
    box.press("Enter")
    return answers.nth(before)


def press(page: Page | Locator, english: str, chinese: str = "") -> None:
    """Press the button of this name, in whichever language the page is."""
    page.get_by_role("button", name=re.compile(f"^({english}|{chinese or english})$")).first.click()


def reload_with_key(page: Page, key: str) -> None:
    """Reload the page once all is written down; it forgets the key, which is entered again."""
    page.evaluate(WRITTEN)
    page.reload()
    enter_key(page, key)


def shown(page: Page) -> list[str]:
    """Questions and answers on the page, in their order."""
    return page.locator("[data-message]").all_inner_texts()


def finished(answer: Locator) -> Locator:
    """The same answer, once the page says that nothing more comes."""
    expect(answer).to_have_attribute("aria-busy", "false", timeout=60_000)
    return answer


def text_of(answer: Locator) -> str:
    """What the model said, without the buttons around it."""
    return answer.locator(".x-markdown").inner_text()
