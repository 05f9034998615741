"""Browser tests: a real Chromium against a live server (--base-url), or a double for what breaks only on demand."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from ops.inventory import Host, hosts
from tests.e2e.front_double import FrontDouble, self_signed
from tests.e2e.page_driver import REPO, Watched

# Long enough for a machine that is busy with something else.
PATIENCE_MS = 60_000
expect.set_options(timeout=PATIENCE_MS)
CHROMIUM = "/usr/bin/chromium"  # Debian's; Playwright's own build would be another download
FLAGS = [
    "--no-sandbox",  # CI runs as root
    # Not the context's ignore_https_errors: with that every new connection fails first, which Chromium counts as a
    # retry of the request that waits for it, and gives up at times when many wait at once.
    "--ignore-certificate-errors",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("bedplate e2e")
    group.addoption("--base-url", help="a live Bedplate server, such as https://192.0.2.10")
    group.addoption("--api-key-file", type=Path, help="file with an API key of that server")
    group.addoption("--live-inventory", type=Path, help="inventory of that server, for the test that kills its service")
    group.addoption("--deploy", action="store_true", help="run the test that deploys other pages to that server")
    group.addoption("--demo-python", type=Path, help="a Python with app/demo/requirements.txt (default: made once)")
    group.addoption("--screenshots", type=Path, help="directory for screenshots (default: a temporary one)")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[..., Watched]]:
    """Open a URL in a fresh profile that accepts self-signed certificates; keywords go to Playwright's new_context."""
    contexts = []

    def open_page(url: str, **context_options: Any) -> Watched:
        options: dict[str, Any] = {"locale": "en-US", **context_options}
        context = browser.new_context(**options)
        context.set_default_timeout(PATIENCE_MS)
        contexts.append(context)
        watched = Watched(context.new_page())
        watched.page.on("request", lambda request: watched.requests.append(request.url))
        watched.page.on("pageerror", lambda error: watched.complaints.append(f"exception: {error}"))
        # A violation of the content security policy is logged as an error too.
        watched.page.on(
            "console",
            lambda line: watched.complaints.append(line.text) if line.type in ("error", "warning") else None,
        )
        watched.page.goto(url)
        return watched

    yield open_page
    for context in contexts:
        context.close()


@pytest.fixture(scope="session")
def screenshots(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory: Path = request.config.getoption("--screenshots") or tmp_path_factory.mktemp("screenshots")
    directory.mkdir(parents=True, exist_ok=True)
    return directory


@pytest.fixture(scope="session")
def live_url(request: pytest.FixtureRequest) -> str:
    url: str | None = request.config.getoption("--base-url")
    if url is None:
        pytest.skip("needs a live server: --base-url and --api-key-file")
    return url.rstrip("/")


@pytest.fixture(scope="session")
def live_key(request: pytest.FixtureRequest) -> str:
    return Path(request.config.getoption("--api-key-file")).read_text().strip()


@pytest.fixture(scope="session")
def live_host(request: pytest.FixtureRequest) -> Host:
    inventory: Path | None = request.config.getoption("--live-inventory")
    if inventory is None:
        pytest.skip("needs a server to log in to: --live-inventory")
    return hosts(inventory)[0]


@pytest.fixture(scope="session")
def built_page() -> Path:
    """The page as role web_client deploys it."""
    work = REPO / ".bedplate"
    command: list[str | Path] = [
        sys.executable,
        REPO / "app/web/build.py",
        "--output",
        work / "web",
        "--work",
        work / "web-work",
    ]
    return Path(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)["path"])


@pytest.fixture
def front(built_page: Path, tmp_path: Path) -> Iterator[FrontDouble]:
    with FrontDouble(
        built_page, f"bp-{secrets.token_hex(4)}-{secrets.token_hex(32)}", self_signed(tmp_path)
    ).running() as double:
        yield double
