"""The demo answers where it is wanted, sandboxed; elsewhere there is nothing of it."""

from __future__ import annotations

from typing import Any

import pytest

from ops.service import Service
from tests.infra.test_60_nginx import asked
from tests.infra.test_80_inference import MOST_EXPOSURE, exposure

UNITS = ("bedplate-demo.socket", "bedplate-demo.service")


@pytest.fixture
def wanted(receipt: dict[str, Any]) -> None:
    if not receipt["demo"]["enabled"]:
        pytest.skip("demo_enabled is false for this host")


def test_where_it_is_not_wanted_there_is_nothing(host: Any, service: Service, receipt: dict[str, Any]) -> None:
    if receipt["demo"]["enabled"]:
        pytest.skip("demo_enabled is true for this host")
    assert asked(service, "GET", "/demo/")[0] == 404
    assert [host.file(f"/etc/systemd/system/{unit}").exists for unit in UNITS] == [False, False]


@pytest.mark.usefixtures("wanted")
def test_it_answers_through_nginx(service: Service) -> None:
    status, _, body = asked(service, "GET", "/demo/")
    assert status == 200 and b"gradio" in body


@pytest.mark.usefixtures("wanted")
def test_it_runs_in_a_sandbox_with_a_user_of_its_own(host: Any) -> None:
    assert [host.run(f"systemctl is-active {unit}").stdout.strip() for unit in UNITS] == ["active", "active"]
    assert exposure(host, UNITS[1]) <= MOST_EXPOSURE
    process = host.run(f"systemctl show --value --property MainPID {UNITS[1]}").stdout.strip()
    assert host.run(f"stat -c %U /proc/{process}").stdout.strip() not in ("root", "bedplate")
