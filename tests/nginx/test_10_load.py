"""What happens to the server's web layer costs its users nothing: restarts, reloads, a new certificate, a killed nginx."""

from __future__ import annotations

import http.client
import json
import ssl
import subprocess
import time

import pytest

from ops.service import ServiceError
from tests.load import Load
from tests.nginx.conftest import Server

QUESTION = {"model": "tutor", "messages": [{"role": "user", "content": "What is Bedplate?"}]}


def any_certificate() -> ssl.SSLContext:
    """The certificate changes meanwhile; before and after, `server.service` proves it to be the receipt's."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def test_restart_twenty_reloads_and_a_new_certificate_fail_no_request(server: Server) -> None:
    service = server.service
    before = service.certificate.read_text()
    with Load(service, rate=20, context=any_certificate()) as load:
        server.on("systemctl restart bedplate-inference.service")
        for _ in range(20):
            server.on("systemctl reload nginx")
        server.nginx(nginx_tls_renew_days=100000)
    assert load.failures == [], f"{load}: {load.failures[:5]}"
    assert len(load.seconds) >= 1000
    assert server.service.certificate.read_text() != before


def test_while_nginx_reloads_no_client_keeps_a_connection(server: Server) -> None:
    """nginx closes idle connections when it reloads: a request just sent on one would be lost."""
    context = any_certificate()
    with server.host.connection() as connection:
        reload = connection.run("sudo systemctl reload nginx", asynchronous=True)
        try:
            said: set[str] = set()
            for _ in range(300):
                said.add(connection_header(server, context))
                if "close" in said:
                    break
                time.sleep(0.02)
        finally:
            reload.join()
    assert "close" in said
    assert connection_header(server, context) == "keep-alive"


def connection_header(server: Server, context: ssl.SSLContext) -> str:
    """What nginx says about a new connection's future."""
    connection = http.client.HTTPSConnection(server.host.address, server.host.https_port, context=context, timeout=60)
    connection.request("GET", "/v1/models")
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return str(answer.headers["Connection"])


def test_a_stream_goes_on_through_a_reload(server: Server) -> None:
    service = server.service
    body = {**QUESTION, "stream": True, "temperature": 2, "seed": 1, "max_tokens": 900}
    command = ["curl", "-sSN", "--cacert", str(service.certificate), "-H", "Content-Type: application/json", "-K", "-"]
    command += ["-d", json.dumps(body), f"{service.base_url}/v1/chat/completions"]
    with subprocess.Popen(command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as stream:
        assert stream.stdin and stream.stdout
        stream.stdin.write(f'header = "Authorization: Bearer {service.key}"\n')
        stream.stdin.close()
        assert stream.stdout.readline().startswith("data: ")
        server.on("nginx -s reload")
        rest = stream.stdout.read()
    assert stream.returncode == 0 and rest.rstrip().endswith("data: [DONE]")
    assert '"finish_reason":"' in rest.replace(" ", "")


def test_a_killed_nginx_comes_back_by_itself(server: Server) -> None:
    service = server.service
    server.on("kill -9 $(cat /run/nginx.pid)")
    last: Exception | None = None
    for _ in range(300):
        try:
            assert service.request("/health/live", timeout=5)
            break
        except ServiceError as error:
            last = error
            time.sleep(0.1)
    else:
        pytest.fail(str(last))
