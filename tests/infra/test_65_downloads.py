"""Other servers read this one's files: whole or in ranges, with the password, and no more at once than was said."""

from __future__ import annotations

import base64
import json
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any

import pytest

from ops.service import Service
from tests.infra.test_60_nginx import asked, connect


@pytest.fixture
def password(request: pytest.FixtureRequest, receipt: dict[str, Any]) -> dict[str, str]:
    """The header that opens the downloads; a server without any is not asked."""
    if not receipt["nginx"]["downloads"]:
        pytest.skip("this server shows no downloads")
    inventory = Path(request.config.getoption("ansible_inventory"))
    folder = inventory if inventory.is_dir() else inventory.parent
    word = (folder / "secrets" / "downloads_password").read_text().strip()
    return {"Authorization": f"Basic {base64.b64encode(f'bedplate:{word}'.encode()).decode()}"}


@pytest.fixture
def download(variables: dict[str, Any]) -> dict[str, str]:
    """The first of them: {name, folder}."""
    return dict(variables["nginx_downloads"][0])


@pytest.fixture
def largest(host: Any, download: dict[str, str]) -> str:
    """Path of its largest file."""
    found = host.run(f"cd {download['folder']} && find . -type f -printf '%s %P\\n' | sort -n | tail -n 1").stdout
    return str(found.split()[1])


def test_they_are_closed_without_the_password(
    service: Service, password: dict[str, str], download: dict[str, str]
) -> None:
    wrong = {"Authorization": f"Basic {base64.b64encode(b'bedplate:wrong').decode()}"}
    for headers in ({}, wrong, {"Authorization": f"Bearer {service.key}"}):
        status, answered, body = asked(service, "GET", f"/downloads/{download['name']}/", headers=headers)
        assert status == 401 and answered["WWW-Authenticate"].startswith("Basic")
        assert json.loads(body)["error"]["code"] == "unauthorized"


def test_the_index_names_what_is_there(
    host: Any, service: Service, password: dict[str, str], download: dict[str, str]
) -> None:
    status, headers, body = asked(service, "GET", f"/downloads/{download['name']}/", headers=password)
    assert status == 200 and headers["Content-Type"].startswith("text/html")
    names = host.run(f"cd {download['folder']} && ls").stdout.split()
    assert names and all(name in body.decode() for name in names)


def test_a_range_is_those_bytes_of_the_file(
    host: Any, service: Service, password: dict[str, str], download: dict[str, str], largest: str
) -> None:
    asked_for = {**password, "Range": "bytes=1000-1999"}
    status, headers, body = asked(service, "GET", f"/downloads/{download['name']}/{largest}", headers=asked_for)
    assert status == 206 and headers["Content-Type"] == "application/octet-stream"
    there = host.run(f"tail -c +1001 {download['folder']}/{largest} | head -c 1000 | base64 -w 0").stdout
    assert body == base64.b64decode(there) and len(body) == 1000


@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE"])
def test_nothing_is_written(
    service: Service, password: dict[str, str], download: dict[str, str], largest: str, method: str
) -> None:
    status, _, _ = asked(service, method, f"/downloads/{download['name']}/{largest}", b"x", password)
    assert status in (404, 405)


@pytest.mark.parametrize("way", ["..", "%2e%2e", "..%2f..%2fetc", "tutor/../../.."])
def test_no_path_leads_out(service: Service, password: dict[str, str], download: dict[str, str], way: str) -> None:
    status, _, body = asked(service, "GET", f"/downloads/{download['name']}/{way}/etc/passwd", headers=password)
    assert status in (400, 404) and b"root:" not in body


def test_more_at_once_than_was_said_are_refused(
    service: Service, password: dict[str, str], variables: dict[str, Any], download: dict[str, str], largest: str
) -> None:
    most = variables.get("nginx_downloads_connections", 16)
    if not variables.get("nginx_downloads_rate"):
        pytest.skip("without a rate a download may be over before the next begins")
    held: list[HTTPSConnection] = []
    try:
        for _ in range(most):
            connection = connect(service)
            connection.request("GET", f"/downloads/{download['name']}/{largest}", headers=password)
            held.append(connection)
            assert connection.getresponse().status == 200
        status, headers, body = asked(service, "GET", f"/downloads/{download['name']}/{largest}", headers=password)
    finally:
        for connection in held:
            connection.close()
    assert status == 429 and headers["Retry-After"] == "1" and headers["X-Should-Retry"] == "true"
    assert json.loads(body)["error"]["type"] == "rate_limit_error"
