"""A page that is open when the next one is deployed goes on working. Deploys twice, so it runs with --all only."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect
from rich.console import Console

from ops.inventory import Host
from ops.play import play
from tests.e2e.page_driver import Watched, enter_key, press


@pytest.fixture
def deploy(request: pytest.FixtureRequest, live_host: Host) -> Iterator[Callable[[Path | None], None]]:
    """Deploy a build, None for the one of this checkout, which is there again in the end."""
    if not request.config.getoption("--deploy"):
        pytest.skip("deploys to the live server: --deploy")
    inventory: Path = request.config.getoption("--live-inventory")

    def deploy(build: Path | None) -> None:
        extra = {"web_client_build_dir": str(build or "")}
        outcome = play("playbooks/application.yml", inventory, Console(stderr=True), extra=extra, limit=live_host.name)
        assert outcome.ok, outcome.log.read_text()[-3000:]

    yield deploy
    deploy(None)


def test_open_page_loads_its_parts_after_an_update(
    deploy: Callable[[Path | None], None],
    built_page: Path,
    live_url: str,
    live_key: str,
    open_page: Callable[..., Watched],
    tmp_path: Path,
) -> None:
    watched = open_page(live_url)
    enter_key(watched.page, live_key)
    watched.page.get_by_role("button", name="Settings").wait_for()
    # Another build: the part that the open page has not loaded yet is gone from it.
    shutil.copytree(built_page, tmp_path / "next")
    parts = list((tmp_path / "next/assets").glob("SettingsDialog-*"))
    assert parts
    for part in parts:
        part.unlink()

    deploy(tmp_path / "next")

    press(watched.page, "Settings")
    expect(watched.page.get_by_role("dialog")).to_be_visible()
    assert watched.complaints == []
