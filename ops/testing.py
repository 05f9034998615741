"""`./bedplate test`: every promise of this checkout, proven on this machine."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from ops.inventory import hosts
from ops.paths import REPORTS, ROOT, VENV_BIN, WORK
from ops.play import clock
from ops.service_env import EnvironmentFailed, service_python
from ops.verify import verify_command

TEST_INVENTORY = WORK / "test" / "inventory"
TEST_LOCK = ROOT / "ops" / "requirements" / "test.txt"
# Debian packages of the tests of transfers and of the page, with a file that tells they are there.
SYSTEM_PACKAGES = {
    "aria2": "/usr/bin/aria2c",
    "chromium": "/usr/bin/chromium",
    "fonts-noto-cjk": "/usr/share/fonts/opentype/noto",
    "openssl": "/usr/bin/openssl",
}


@dataclass(frozen=True)
class Stage:
    """One pytest run: what it proves, its command without the report, whether it is slow or destructive."""

    name: str
    proves: str
    command: Callable[[], list[str]]
    slow: bool = False


def pytest_command(*arguments: str, python: str = sys.executable) -> list[str]:
    """A pytest call with short output."""
    return [python, "-m", "pytest", "-q", *arguments]


def page_command(*tests: str) -> list[str]:
    """The browser tests, or some of them, against the server the site stage provisioned."""
    (host, *_) = hosts(TEST_INVENTORY)
    key_file = TEST_INVENTORY / "secrets" / "api_key"
    where = [f"--base-url={host.base_url}", f"--api-key-file={key_file}", f"--live-inventory={TEST_INVENTORY}"]
    return pytest_command(*(tests or ("tests/web", "tests/e2e")), *where, f"--screenshots={REPORTS / 'screenshots'}")


def stages(service: Path) -> list[Stage]:
    """All stages in the order they run; the site stages leave a provisioned server to the ones after them."""
    return [
        Stage("lint", "linters and the rules of the house", lambda: pytest_command("tests/lint")),
        Stage("unit", "decisions, modules, filters", lambda: pytest_command("tests/unit")),
        Stage("app", "the inference service", lambda: pytest_command("tests/app", python=str(service))),
        Stage("site", "a bare server to a chat answer, twice, and refusals", lambda: pytest_command("tests/site")),
        Stage(
            "verify", "every layer on the live server", lambda: verify_command(TEST_INVENTORY, REPORTS / "verify.xml")
        ),
        Stage("page", "the page is built and chats in a real browser", page_command),
        Stage(
            "reprovision",
            "the driver of that server changes: followed under load, rolled back, taken back",
            lambda: pytest_command("tests/reprovision"),
        ),
        Stage(
            "driver",
            "a driver on a live server: installed, held, changed, brought back",
            lambda: pytest_command("tests/driver"),
        ),
        Stage(
            "gateway",
            "two servers and a gateway: balanced, drained, rolled, killed, certified, and no request lost",
            lambda: pytest_command("tests/gateway"),
            slow=True,
        ),
        Stage(
            "conformance",
            "other people's programs work with the service",
            lambda: pytest_command("tests/conformance", python=str(service)),
            slow=True,
        ),
        Stage(
            "soak",
            "ten thousand requests leave the service's memory as it was",
            lambda: pytest_command("tests/app/test_soak.py", "--soak-requests=10000", python=str(service)),
            slow=True,
        ),
        Stage(
            "nginx",
            "the web layer under load: restart, reloads, a new certificate; its limits; what other judges say",
            lambda: pytest_command("tests/nginx"),
            slow=True,
        ),
        Stage(
            "mirrors",
            "a server behind a proxy, with mirrors over TLS by a company's own authority",
            lambda: pytest_command("tests/mirrors"),
            slow=True,
        ),
        Stage(
            slow=True,
        ),
        Stage(
            "page_update",
            "a page that is open goes on while the next one is deployed",
            lambda: page_command("tests/e2e/test_page_update.py", "--deploy"),
