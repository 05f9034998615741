"""Nginx counts per key: who runs wild is told to wait, and nobody else is."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from ops.service import Service
from tests.infra.test_60_nginx import asked, connect
from tests.nginx.conftest import Server


@pytest.fixture(scope="module")
def service(server: Server) -> Iterator[Service]:
    """Limits so low that a test reaches them on any machine."""
    server.nginx(nginx_key_rate=1, nginx_key_burst=5, nginx_key_connections=2)
    yield server.service
    server.nginx()


def statuses(service: Service, key: str, count: int) -> list[int]:
    """What that many requests in a row are answered."""
    bearer = {"Authorization": f"Bearer {key}"}
    return [asked(service, "GET", "/v1/models", headers=bearer)[0] for _ in range(count)]


def test_too_many_a_second_are_told_to_wait_in_the_shape_of_the_api(service: Service) -> None:
    bearer = {"Authorization": f"Bearer {service.key}"}
    for _ in range(200):
        status, headers, body = asked(service, "GET", "/v1/models", headers=bearer)
        if status != 200:
            break
    assert status == 429
    assert headers["Retry-After"] == "1" and headers["X-Should-Retry"] == "true"
    assert json.loads(body)["error"]["type"] == "rate_limit_error"


def test_whoever_knows_an_id_cannot_use_up_its_share(service: Service) -> None:
    _, public, secret = service.key.split("-")
    guessed = f"bp-{public}-{'0' * len(secret)}"
    assert 429 in statuses(service, guessed, 200)
    # The holder of the key is not the one who was told to wait: what it gets is the service's own answer.
    other = f"bp-{public}-{secret[:8]}{'0' * (len(secret) - 8)}"
    assert statuses(service, other, 1)[0] in (401, 429)
    assert statuses(service, f"bp-{public}-11111111", 1) == [401]


def test_too_many_at_once_are_told_to_wait(service: Service) -> None:
    key = "bp-connections-0123456789abcdef"
    held = [connect(service) for _ in range(2)]
    for connection in held:
        # The body never comes: the request stays open in nginx.
        connection.putrequest("POST", "/v1/embeddings")
        for name, value in {"Authorization": f"Bearer {key}", "Content-Length": "10"}.items():
            connection.putheader(name, value)
        connection.endheaders()
    try:
        answers = {asked(service, "GET", "/v1/models", headers={"Authorization": f"Bearer {key}"})[0] for _ in range(3)}
    finally:
        for connection in held:
            connection.close()
    assert answers == {429}


def test_the_page_and_probes_are_not_counted(service: Service) -> None:
    assert {asked(service, "GET", path)[0] for path in ("/", "/health/live") for _ in range(20)} == {200}
