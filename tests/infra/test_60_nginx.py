"""Nginx lets in what it should, closes the rest, and holds no token back."""

from __future__ import annotations

import http.client
import json
import re
import socket
import ssl
import time
import uuid
from typing import Any
from urllib.parse import urlsplit

import pytest

from ops.service import Service, trust
from tests.infra.sandboxing import exposure

# Among them what vLLM answers without a key, and what nginx keeps for itself.
CLOSED = [
    *("/docs", "/redoc", "/openapi.json", "/v1/load", "/v1", "/health", "/.manifest.json", "/-error.json", "/-closing"),
    *("/invocations", "/pause", "/resume", "/sleep", "/load", "/version", "/server_info", "/ping", "/update_weights"),
    *("/collective_rpc", "/reset_prefix_cache", "/v1/load_lora_adapter", "/v1/unload_lora_adapter", "/v1/files"),
]
# systemd's own measure, from 0 (closed) to 10 (open). Debian's own unit has 9.6.
MOST_EXPOSURE = 2.7


def connect(service: Service) -> http.client.HTTPSConnection:
    where = urlsplit(service.base_url)
    return http.client.HTTPSConnection(
        where.hostname or "", where.port or 443, timeout=60, context=trust(service.certificate)
    )


def asked(
    service: Service, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
) -> tuple[int, Any, bytes]:
    """(status, headers, body) of one request without a key."""
    connection = connect(service)
    connection.request(method, path, body, headers or {})
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
    status, headers, body = asked(service, "POST", "/v1/embeddings", bytes(9 * 1024 * 1024))
    assert status == 413
    assert json.loads(body)["error"]["code"] == "request_too_large"
    assert headers["X-Should-Retry"] == "false"


# Longer than nginx takes (8 KB), and short enough to be read whole: a server that closes before it has read all resets.
@pytest.mark.parametrize("path", ["/%%%", f"/{'a' * 9000}"])
def test_what_is_no_request_is_refused_in_the_shape_of_the_api(service: Service, path: str) -> None:
    status, _, body = asked(service, "GET", path)
    assert status in (400, 414)
    assert json.loads(body)["error"]["type"] == "invalid_request_error"


def test_the_id_of_a_request_goes_through_and_comes_back(service: Service) -> None:
    for path in ("/v1/models", "/closed"):
        _, headers, _ = asked(service, "GET", path, headers={"X-Request-ID": "my-request-1"})
        assert headers.get_all("X-Request-ID") == ["my-request-1"]
        _, headers, _ = asked(service, "GET", path, headers={"X-Request-ID": "not printable: \xff"})
        assert re.fullmatch("[0-9a-f]{32}", headers["X-Request-ID"])


def test_the_log_tells_times_and_no_secret(host: Any, service: Service) -> None:
    marker = uuid.uuid4().hex
    bearer = {"Authorization": f"Bearer {service.key}", "X-Request-ID": marker}
    status, _, _ = asked(service, "GET", "/v1/models?token=canary", headers=bearer)
    # nginx writes the line after the last byte of the answer has gone.
    wait = f"for i in $(seq 100); do grep -h {marker} /var/log/nginx/access.log && break; sleep 0.1; done"
    line = host.run(wait).stdout
    told = json.loads(line)
    assert (told["status"], told["method"], told["path"]) == (status, "GET", "/v1/models") == (200, "GET", "/v1/models")
    assert told["key"] == service.key.split("-")[1]
    assert told["seconds"] >= 0 and float(told["upstream_first_byte"]) >= 0
    assert service.key[-8:] not in line and service.key.split("-")[2][:8] not in line and "canary" not in line


def test_http2_is_spoken(service: Service) -> None:
    where, context = urlsplit(service.base_url), trust(service.certificate)
    context.set_alpn_protocols(["h2", "http/1.1"])
    with (
        socket.create_connection((where.hostname, where.port or 443), timeout=20) as plain,
        context.wrap_socket(plain, server_hostname=where.hostname) as secure,
    ):
        assert secure.selected_alpn_protocol() == "h2"


def test_the_sandbox_is_closed(host: Any) -> None:
    assert exposure(host, "nginx.service") <= MOST_EXPOSURE


def test_the_master_gains_nothing_and_the_workers_are_nobody(host: Any) -> None:
    master = host.run("cat /run/nginx.pid").stdout.strip()
    status = host.run(f"cat /proc/{master}/status").stdout
    assert re.search(r"^NoNewPrivs:\s+1$", status, re.MULTILINE)
    (worker, *_) = host.run(f"cat /proc/{master}/task/{master}/children").stdout.split()
    held = host.run(f"cat /proc/{worker}/status").stdout
    assert re.search(r"^CapEff:\s+0+$", held, re.MULTILINE)
    assert host.run(f"stat -c %U /proc/{worker}").stdout.strip() == "www-data"
    assert (
        int(re.search(r"^Max open files +(\d+)", host.run(f"cat /proc/{worker}/limits").stdout, re.MULTILINE)[1]) > 2048
    )  # type: ignore[index]


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
    """The first event is a few hundred bytes. A buffering proxy would send 4 KB first, or a shorter answer whole, each time."""
    first = []
    for seed in range(20):
        records = tls_records(service, seed)
        assert b"[DONE]" in b"".join(records)
        first.append(len(records[0]))
        # On a busy machine the service itself may send several events at once, now and then.
        if first[-1] < 1024 and sum(map(len, records)) > 2048:
            return
    pytest.fail(f"bytes that came first, of 20 answers: {first}")
