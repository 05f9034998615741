"""Nginx lets in what it should, closes the rest, and holds no token back."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import time
from typing import Any
from urllib.parse import urlsplit

import pytest

from ops.service import Service, trust

CLOSED = ["/docs", "/openapi.json", "/v1/load", "/v1", "/health", "/.manifest.json"]


def connect(service: Service) -> http.client.HTTPSConnection:
    where = urlsplit(service.base_url)
    return http.client.HTTPSConnection(
        where.hostname or "", where.port or 443, timeout=60, context=trust(service.certificate)
    )


def asked(service: Service, method: str, path: str, body: bytes | None = None) -> tuple[int, Any, bytes]:
    """(status, headers, body) of one request without a key."""
    connection = connect(service)
    connection.request(method, path, body)
    answer = connection.getresponse()
    return answer.status, answer.headers, answer.read()


def test_nginx_runs_now_and_after_a_reboot(host: Any) -> None:
    assert host.service("nginx").is_running
    assert host.service("nginx").is_enabled


def test_the_configuration_is_valid(host: Any) -> None:
    tried = host.run("nginx -t")
    assert tried.rc == 0, tried.stderr


def test_the_site_of_the_distribution_is_gone(host: Any) -> None:
    assert not host.file("/etc/nginx/sites-enabled/default").exists


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_shows_a_certificate_that_is_valid_for_days(service: Service, version: ssl.TLSVersion) -> None:
    where = urlsplit(service.base_url)
    context = trust(service.certificate)
    context.minimum_version = context.maximum_version = version
    with (
        socket.create_connection((where.hostname, where.port or 443), timeout=20) as plain,
        context.wrap_socket(plain, server_hostname=where.hostname) as secure,
    ):
        certificate = secure.getpeercert() or {}
    days = (ssl.cert_time_to_seconds(str(certificate["notAfter"])) - time.time()) / 86400
    assert days > 7


def test_the_key_is_for_root_alone(host: Any) -> None:
    pem = host.file("/etc/bedplate/tls/server.pem")
    assert (pem.user, pem.mode) == ("root", 0o600)


def test_http_redirects_to_https(host: Any, service: Service, receipt: dict[str, Any]) -> None:
    connection = http.client.HTTPConnection(
        urlsplit(service.base_url).hostname or "", receipt["nginx"]["http_port"], timeout=20
    )
    connection.request("GET", "/v1/models")
    answer = connection.getresponse()
    assert answer.status == 308
    assert answer.headers["Location"] == f"{service.base_url}/v1/models"


@pytest.mark.parametrize("path", CLOSED)
def test_a_path_that_is_not_open_answers_404_in_the_shape_of_the_api(service: Service, path: str) -> None:
    status, headers, body = asked(service, "GET", path)
    assert status == 404
    assert headers["Content-Type"] == "application/json"
    assert json.loads(body)["error"]["code"] == "not_found"


def test_too_large_a_request_is_refused_in_the_shape_of_the_api(service: Service) -> None:
    status, _, body = asked(service, "POST", "/v1/embeddings", bytes(9 * 1024 * 1024))
    assert status == 413
    assert json.loads(body)["error"]["code"] == "request_too_large"


def test_nginx_does_not_tell_its_version(service: Service) -> None:
    _, headers, _ = asked(service, "GET", "/")
    assert headers["Server"] == "nginx"


def tls_records(service: Service, seed: int) -> list[bytes]:
    """The pieces in which nginx sends a random streamed answer: each of its writes is a TLS record, and recv gives one."""
    chat = {
        "model": service.request("/v1/models")["data"][0]["id"],
        "messages": [{"role": "user", "content": "What is Bedplate?"}],
        "stream": True,
        "temperature": 2.0,
        "seed": seed,
        "max_tokens": 200,
    }
    body = json.dumps(chat)
    connection = connect(service)
    connection.connect()
    connection.sock.sendall(
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: bedplate\r\nConnection: close\r\nContent-Length: {len(body)}\r\n"
        f"Content-Type: application/json\r\nAuthorization: Bearer {service.key}\r\n\r\n{body}".encode()
    )
    pieces = list(iter(lambda: connection.sock.recv(1 << 20), b""))
    head, _, rest = pieces[0].partition(b"\r\n\r\n")
    assert b"text/event-stream" in head
    return [piece for piece in (rest, *pieces[1:]) if piece]


def test_the_first_token_is_not_held_back(service: Service) -> None:
    """The first event is a few hundred bytes. A buffering proxy would send 4 KB first, or a shorter answer whole."""
    answers = (tls_records(service, seed) for seed in range(20))
    records = next(answer for answer in answers if sum(map(len, answer)) > 2048)
    assert b"[DONE]" in b"".join(records)
    assert len(records[0]) < 1024
