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
            "airgap",
            "a server that reaches nothing is installed from a bundle",
            lambda: pytest_command("tests/airgap"),
            slow=True,
        ),
        Stage(
            "page_update",
            "a page that is open goes on while the next one is deployed",
            lambda: page_command("tests/e2e/test_page_update.py", "--deploy"),
            slow=True,
        ),
        Stage("faults", "interrupted runs end like clean ones", lambda: pytest_command("tests/faults"), slow=True),
        Stage(
            "models",
            "transfers of models: killed, cut off, without room, damaged, shared by three servers",
            lambda: pytest_command("tests/models"),
            slow=True,
        ),
        Stage(
            "driver_service",
            "the driver of a serving server changes: it answers on the new one, or on the old one",
            lambda: pytest_command("tests/driver_service"),
            slow=True,
        ),
        Stage(
            "driver_real",
            "Debian's own drivers, built by DKMS on live servers",
            lambda: pytest_command("tests/driver_real"),
            slow=True,
        ),
    ]


def test(all_stages: bool, only: list[str] | None, console: Console) -> int:
    """Run the stages; returns 0 when every test passed. The report is .bedplate/reports/junit.xml."""
    REPORTS.mkdir(parents=True, exist_ok=True)
    for old in REPORTS.glob("*.xml"):
        old.unlink()
    try:
        install_test_packages(console)
        service = service_python(console, tests=True)
    except EnvironmentFailed as error:
        console.print(str(error), highlight=False, markup=False)
        return 1
    started, failed_stages = time.monotonic(), []
    for stage in stages(service):
        if (only and stage.name not in only) or (stage.slow and not all_stages and not only):
            continue
        console.rule(f"{stage.name}: {stage.proves}", align="left")
        before = time.monotonic()
        command = stage.command()
        if not any(word.startswith("--junitxml") for word in command):
            command.append(f"--junitxml={REPORTS / (stage.name + '.xml')}")
        environment = {**os.environ, "BEDPLATE_TEST_INVENTORY": str(TEST_INVENTORY)}
        status = subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
        console.print(f"{stage.name}: {clock(time.monotonic() - before)}", highlight=False)
        if status != 0:
            failed_stages.append(stage.name)
    counts = merge_reports()
    console.rule(align="left")
    console.print(
        f"took {clock(time.monotonic() - started)}, report in {(REPORTS / 'junit.xml').relative_to(ROOT)}",
        highlight=False,
    )
    if failed_stages:
        console.print(
            f"failed: {', '.join(failed_stages)}; run one again with ./bedplate test --only {failed_stages[0]}",
            highlight=False,
        )
    print(f"{counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped")
    return 1 if failed_stages or counts["failed"] or not counts["passed"] else 0


def install_test_packages(console: Console) -> None:
    """The locked test packages into .venv, and the browser; once."""
    stamp, wanted = VENV_BIN.parent / "bedplate-test-stamp", hashlib.sha256(TEST_LOCK.read_bytes()).hexdigest()
    if not stamp.exists() or stamp.read_text() != wanted:
        console.print("Installing the test tools into .venv (once)", highlight=False)
        pip = [sys.executable, "-m", "pip", "install", "-qq", "--no-compile", "--require-hashes", "-r", str(TEST_LOCK)]
        done = subprocess.run(pip, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise EnvironmentFailed(f"BP003 the test tools could not be installed: {done.stderr.strip()[-600:]}")
        stamp.write_text(wanted)
    missing = [package for package, path in SYSTEM_PACKAGES.items() if not Path(path).exists()]
    if missing:
        if os.geteuid() != 0 or shutil.which("apt-get") is None:
            raise EnvironmentFailed(
                f"BP002 system packages are missing: {' '.join(missing)}. Fix: sudo apt-get install -y {' '.join(missing)}"
            )
        console.print(f"Installing {', '.join(missing)} for the tests (once)", highlight=False)
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for words in (["update", "-q"], ["install", "-q", "-y", "--no-install-recommends", *missing]):
            subprocess.run(["apt-get", *words], check=True, stdout=subprocess.DEVNULL, env=environment)


def merge_reports() -> dict[str, int]:
    """One JUnit file out of the stages' files; returns the counts passed, failed, skipped."""
    merged = ET.Element("testsuites")
    for report in sorted(REPORTS.glob("*.xml")):
        for suite in ET.parse(report).getroot().iter("testsuite"):
            suite.set("name", report.stem)
            merged.append(suite)
    ET.ElementTree(merged).write(REPORTS / "junit.xml", encoding="utf-8", xml_declaration=True)
    total, failed, skipped = (
        sum(int(suite.get(name, 0)) for suite in merged for name in names)
        for names in (("tests",), ("failures", "errors"), ("skipped",))
    )
    return {"passed": total - failed - skipped, "failed": failed, "skipped": skipped}
