"""How soon the chat page can be used: cold loads in headless Chromium, through the live Nginx, told by the browser's own clock.

    .venv/bin/python -m bench.page [--inventory inventory/sandbox] [--loads 15]

Each load is a browser profile of its own: nothing cached, no connection, TLS and all. The page's `performance.now()` counts from the start of the
navigation. Twice: until the field for the key is painted and takes one (a first visit), and with a key kept in the tab until the box for a
question does, for which the models were asked. Writes bench/results/page.json. Needs what ./bedplate test installs.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, sync_playwright
from rich.console import Console

from ops.inventory import hosts
from ops.paths import ROOT, WORK
from ops.service import service_of
from tests.e2e.conftest import CHROMIUM, FLAGS

RESULT = ROOT / "bench" / "results" / "page.json"
CONSOLE = Console()
# Runs before the page's own scripts.
WATCH = """
const [field, key] = %s
if (key) sessionStorage.setItem('bedplate.key', key)
const watch = new MutationObserver(() => {
    if (!document.querySelector(field)) return
    watch.disconnect()
    performance.mark('usable')
})
watch.observe(document, { subtree: true, childList: true, attributes: true })
"""
FIELDS = {"first_visit": "input[type=password]:enabled", "with_a_key": "main textarea:enabled"}
MEASURED = """async () => {
    await new Promise((resolve) => new PerformanceObserver((list) =>
        list.getEntriesByName('first-contentful-paint').length && resolve()).observe({ type: 'paint', buffered: true }))
    const [shown] = performance.getEntriesByName('first-contentful-paint')
    const [page] = performance.getEntriesByType('navigation')
    const files = [page, ...performance.getEntriesByType('resource')]
    return {
        usable_ms: Math.max(shown.startTime, performance.getEntriesByName('usable')[0].startTime),
        first_contentful_paint_ms: shown.startTime,
        first_byte_ms: page.responseStart,
        files: files.length,
        bytes_over_the_network: files.reduce((sum, file) => sum + file.transferSize, 0),
    }
}"""


def load(browser: Browser, url: str, field: str, key: str | None) -> dict[str, float]:
    """One cold load: when the field was usable and what the browser noted on the way."""
    context = browser.new_context(ignore_https_errors=True, locale="en-US")
    context.add_init_script(WATCH % json.dumps([field, key]))
    page = context.new_page()
    page.goto(url)
    page.locator(field).wait_for()
    found: dict[str, float] = page.evaluate(MEASURED)
    context.close()
    return found


def summary(loads: list[dict[str, float]]) -> dict[str, Any]:
    """The median of each number, and the spread of the one that is promised."""
    ordered = sorted(one["usable_ms"] for one in loads)
    return {
        **{name: round(statistics.median(one[name] for one in loads)) for name in loads[0]},
        "usable_ms_from_to": [round(ordered[0]), round(ordered[-1])],
        "loads": len(loads),
    }


def main() -> None:
    """Measure, show, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inventory", type=Path, default=ROOT / "inventory" / "sandbox")
    parser.add_argument("--loads", type=int, default=15)
    given = parser.parse_args()
    host = hosts(given.inventory)[0]
    service = service_of(host, given.inventory / "secrets")
    build: list[str | Path] = [
        sys.executable,
        ROOT / "app/web/build.py",
        "--output",
        WORK / "web",
        "--work",
        WORK / "web-work",
    ]
    weight = json.loads(subprocess.check_output(build))["bytes"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        found: dict[str, list[dict[str, float]]] = {visit: [] for visit in FIELDS}
        for number in range(given.loads + 1):
            for visit, field in FIELDS.items():
                one = load(browser, service.base_url, field, service.key if visit == "with_a_key" else None)
                if number > 0:  # the very first one starts the browser's own processes
                    found[visit].append(one)
        version = browser.version
        browser.close()
    result = {
        "machine": {"cores": os.cpu_count(), "chromium": version},
        "gzip_bytes": weight,
        **{visit: summary(loads) for visit, loads in found.items()},
    }
    CONSOLE.print_json(data=result)
    RESULT.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
