"""Gateways reach every server, over a way that is closed to everybody else; certificates on it have long to live."""

from __future__ import annotations

import http.client
import json
import ssl
import urllib.request
from typing import Any

import pytest

from ops.service import Service, trust

LINK = "/etc/bedplate/tls/link.pem"


@pytest.fixture(scope="module", autouse=True)
def _there_are_gateways(variables: dict[str, Any]) -> None:
    if not variables["groups"].get("gateways"):
        pytest.skip("the inventory has no gateways")


@pytest.fixture
def server(variables: dict[str, Any]) -> dict[str, Any]:
    if "gpu_servers" not in variables["group_names"]:
        pytest.skip("a gateway alone")
    return variables


@pytest.fixture
def gateway(variables: dict[str, Any]) -> dict[str, Any]:
    if "gateways" not in variables["group_names"]:
        pytest.skip("no gateway")
    return variables


def test_the_key_of_the_way_between_is_for_root_alone(host: Any) -> None:
    pem = host.file(LINK)
    assert (pem.user, pem.mode) == ("root", 0o600)


def test_its_certificate_is_signed_by_the_inventory_and_has_months_to_live(host: Any) -> None:
    verified = host.run(f"openssl verify -CAfile /etc/bedplate/tls/link_ca.pem {LINK}")
    assert verified.rc == 0, verified.stderr
    assert host.run(f"openssl x509 -in {LINK} -noout -checkend {90 * 86400}").rc == 0


@pytest.mark.parametrize("port", ["nginx_link_port", "nginx_link_wait_port"])
def test_who_shows_no_certificate_gets_no_answer_from_a_server(server: dict[str, Any], port: str) -> None:
    number = int(server.get(port, {"nginx_link_port": 8444, "nginx_link_wait_port": 8445}[port]))
    stranger = ssl._create_unverified_context()
    connection = http.client.HTTPSConnection(str(server["ansible_host"]), number, timeout=20, context=stranger)
    connection.request("GET", "/v1/models")
    answer = connection.getresponse()
    assert answer.status == 400
    assert b"No required SSL certificate was sent" in answer.read()


def test_a_gateway_shows_every_servers_metrics_under_its_name(gateway: dict[str, Any], service: Service) -> None:
    for name in gateway["groups"]["gpu_servers"]:
        asked = urllib.request.Request(
            f"{service.base_url}/metrics/{name}", headers={"Authorization": f"Bearer {service.key}"}
        )
        with urllib.request.urlopen(asked, timeout=60, context=trust(service.certificate)) as answer:
            assert "vllm:generation_tokens_total" in answer.read().decode()


def test_a_gateway_answers_a_chat_to_its_end(gateway: dict[str, Any], service: Service) -> None:
    chats = service.request("/v1/models")["data"]
    body = {"model": chats[0]["id"], "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8}
    assert gateway and service.request("/v1/chat/completions", body)["choices"][0]["finish_reason"] in (
        "stop",
        "length",
    )


def test_a_gateway_runs_no_model_of_its_own(host: Any, variables: dict[str, Any]) -> None:
    if "gpu_servers" in variables["group_names"]:
        pytest.skip("a GPU server")
    assert not host.file("/run/bedplate/inference.sock").exists
    assert "inference" not in json.loads(host.file("/etc/ansible/facts.d/bedplate.fact").content_string)
