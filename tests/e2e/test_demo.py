"""The Gradio demo starts, answers, and asks nobody else. Against a double of the service; a deployed demo has a layer test."""

from __future__ import annotations

import hashlib
import http.client
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.front_double import FrontDouble
from tests.e2e.page_driver import REPO, Watched

LOCK = REPO / "app/demo/requirements.txt"
# Python reads this module at every start: it writes down whom the demo calls.
WITNESS = """
import os, sys
def witness(event, args):
    if event in ("socket.connect", "socket.getaddrinfo"):
        with open(os.environ["WITNESS"], "a") as file:
            print(event, args[1] if event == "socket.connect" else args[0], file=file)
sys.addaudithook(witness)
"""


@pytest.fixture(scope="session")
def demo_python(request: pytest.FixtureRequest) -> Path:
    """A Python with the demo's locked packages, kept between runs."""
    given: Path | None = request.config.getoption("--demo-python")
    if given:
        return given
    home = REPO / f".bedplate/demo-env-{hashlib.sha256(LOCK.read_bytes()).hexdigest()[:12]}"
    if not (home / "complete").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", home], check=True)
        subprocess.run([home / "bin/pip", "install", "--quiet", "--require-hashes", "-r", LOCK], check=True)
        (home / "complete").touch()
    return home / "bin/python"


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket, as Nginx speaks to the demo."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost")
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(self.path))


def get(path: Path) -> str | None:
    """The page at a Unix socket; None while nobody listens."""
    connection = UnixConnection(path)
    try:
        connection.request("GET", "/")
        return connection.getresponse().read().decode()
    except (FileNotFoundError, ConnectionRefusedError):
        return None


@pytest.fixture(scope="module")
def service() -> Iterator[FrontDouble]:
    with FrontDouble(None, f"bp-{secrets.token_hex(4)}-{secrets.token_hex(32)}").running() as double:
        yield double


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the demos write, and the witness what they call."""
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def start(demo_python: Path, folder: Path) -> Iterator[Callable[..., None]]:
    """Start a demo with these options, one per line of a file; it is ended with the tests."""
    running: list[subprocess.Popen[bytes]] = []
    (folder / "sitecustomize.py").write_text(WITNESS)
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONPATH": str(folder)}
    environment |= {"WITNESS": str(folder / "calls"), "GRADIO_TEMP_DIR": str(folder)}

    def start(*options: str) -> None:
        file = folder / f"demo{len(running)}.conf"
        file.write_text("\n".join(options))
        command: list[str | Path] = [demo_python, REPO / "app/demo/bedplate_demo.py", f"@{file}"]
        running.append(subprocess.Popen(command, env=environment))

    yield start
    for process in running:
        process.kill()
        process.wait()


def wait_for(answer: Callable[[], object], seconds: float = 120) -> None:
    """Wait until a call gives something."""
    deadline = time.monotonic() + seconds
    while not answer():
        assert time.monotonic() < deadline, "the demo did not start"
        time.sleep(0.2)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def demo_url(service: FrontDouble, start: Callable[..., None]) -> str:
    port = free_port()
    start(f"--base-url={service.url}/v1", f"--listen=127.0.0.1:{port}")
    wait_for(lambda: listens(port))
    return f"http://127.0.0.1:{port}"


@pytest.fixture
def demo(demo_url: str, service: FrontDouble, open_page: Callable[..., Watched]) -> Watched:
    service.chats.clear()
    return open_page(demo_url)


def enter_key(page: Page, key: str) -> None:
    box = page.get_by_label("API key")
    box.fill(key)
    box.press("Enter")


def ask(page: Page, question: str) -> None:
    box = page.get_by_role("tabpanel").get_by_role("textbox").last
    box.fill(question)
    box.press("Enter")


def test_demo_chats_compares_and_asks_nobody_else(
    demo: Watched, service: FrontDouble, folder: Path, screenshots: Path
) -> None:
    page = demo.page
    enter_key(page, service.key)
    expect(page.get_by_label("Model", exact=True)).to_have_value("double")
    assert page.title() == "Bedplate"

    ask(page, "One")
    expect(page.get_by_text("You said: One", exact=True)).to_be_visible()
    page.get_by_role("spinbutton", name="Temperature").fill("0.5")
    ask(page, "Two")
    expect(page.get_by_text("You said: Two", exact=True)).to_be_visible()
    page.screenshot(path=screenshots / "demo-chat.png")

    assert [turn["content"] for turn in service.chats[-1]["messages"]] == ["One", "You said: One", "Two"]
    assert service.chats[-1]["temperature"] == 0.5

    page.get_by_role("tab", name="Side by side").click()
    expect(page.get_by_label("Model on the left")).to_have_value("double")
    expect(page.get_by_label("Model on the right")).to_have_value("chat")
    page.get_by_label("Question").fill("Three")
    page.get_by_role("button", name="Ask both").click()
    for answer in ("You said: Three", "chat: You said: Three"):
        expect(page.get_by_text(answer, exact=True)).to_be_visible()
    page.screenshot(path=screenshots / "demo-side.png")
    assert {(chat["model"], chat["temperature"]) for chat in service.chats[-2:]} == {("double", 0.5), ("chat", 0.5)}

    page.get_by_role("tab", name="Similarity").click()
    page.get_by_label("First text").fill("abc")
    page.get_by_label("Second text").fill("abd")
    page.get_by_role("button", name="Compare").click()
    expect(page.get_by_label("Cosine similarity")).to_have_value("0.6667")

    origin = page.evaluate("location.origin")
    assert [url for url in demo.requests if not url.startswith((f"{origin}/", "blob:", "data:"))] == []
    called = (folder / "calls").read_text().splitlines()
    port = str(service.server_address[1])
    assert [call for call in called if "127.0.0.1" not in call] == []
    assert any(port in call for call in called)
    assert demo.complaints == []


@pytest.mark.parametrize(
    ("question", "words", "kept"),
    [
        ("Be busy", "The queue is full.", []),
        ("Be cut", "no finish_reason", ["Be cut", "You said: Be cut"]),
        ("Be faulty", "The engine was restarted.", ["Be faulty", "You said: Be faulty"]),
    ],
)
def test_demo_shows_what_went_wrong_and_goes_on(
    demo: Watched, service: FrontDouble, question: str, words: str, kept: list[str]
) -> None:
    enter_key(demo.page, service.key)
    expect(demo.page.get_by_label("Model", exact=True)).to_have_value("double")
    ask(demo.page, question)
    expect(demo.page.get_by_text(words)).to_be_visible()

    ask(demo.page, "Two")
    expect(demo.page.get_by_text("You said: Two", exact=True)).to_be_visible()
    assert [turn["content"] for turn in service.chats[-1]["messages"]] == [*kept, "Two"]


def test_demo_without_a_key_gets_no_answer(demo: Watched, service: FrontDouble) -> None:
    enter_key(demo.page, "bp-wrong")
    ask(demo.page, "One")
    expect(demo.page.get_by_text("Incorrect API key")).to_be_visible()
    assert service.chats == []


def test_demo_speaks_chinese(demo_url: str, open_page: Callable[..., Watched], screenshots: Path) -> None:
    page = open_page(demo_url, locale="zh-CN", color_scheme="dark").page
    for text in ("API 密钥", "模型", "温度", "回答的最大长度（token）"):
        expect(page.get_by_text(text, exact=True).first).to_be_visible()
    page.screenshot(path=screenshots / "demo-zh-dark.png")


def test_demo_listens_on_a_socket_below_a_path(
    service: FrontDouble, start: Callable[..., None], tmp_path: Path
) -> None:
    path = tmp_path / "demo.sock"
    start(f"--base-url={service.url}/v1", f"--listen=unix:{path}", "--root-path=/demo")
    wait_for(lambda: get(path))
    assert '"root":"http://localhost/demo"' in (get(path) or "").replace(" ", "")
