"""The service generates tokens, in a sandbox, for those who have a key."""

from __future__ import annotations

import json
import re
import urllib.request
from typing import Any

import pytest

from ops.service import Service, ServiceError, trust
from tests.infra.sandboxing import exposure

UNIT = "bedplate-inference.service"
# systemd's own measure, from 0 (closed) to 10 (open).
MOST_EXPOSURE = 1.3


def main_process(host: Any) -> str:
    return str(host.run(f"systemctl show --value --property MainPID {UNIT}").stdout.strip())


@pytest.mark.parametrize("unit", ["bedplate-inference.socket", UNIT])
def test_socket_and_service_run_now_and_after_a_reboot(host: Any, unit: str) -> None:
    assert host.run(f"systemctl is-active {unit}").stdout.strip() == "active"
    assert host.run(f"systemctl is-enabled {unit}").stdout.strip() == "enabled"


def test_ready_means_that_a_token_was_generated(service: Service) -> None:
    assert service.request("/health/ready") == {"status": "ready"}


def test_metrics_are_for_those_who_have_a_key(service: Service) -> None:
    refused = Service(service.base_url, service.certificate, "bp-00000000-" + "0" * 64)
    with pytest.raises(ServiceError, match="401"):
        refused.request("/metrics")
    bearer = {"Authorization": f"Bearer {service.key}"}
    asked = urllib.request.Request(f"{service.base_url}/metrics", headers=bearer)
    with urllib.request.urlopen(asked, timeout=60, context=trust(service.certificate)) as answer:
        text = answer.read().decode()
    assert "vllm:generation_tokens_total{" in text


def test_it_serves_the_models_of_the_receipt(service: Service, receipt: dict[str, Any]) -> None:
    served = [model["id"] for model in service.request("/v1/models")["data"]]
    assert served == receipt["inference"]["models"] == [model["name"] for model in receipt["model"]["models"]]


def test_a_chat_is_answered_to_its_end(service: Service, receipt: dict[str, Any]) -> None:
    chats = [one["name"] for one in receipt["model"]["models"] if one["service"]["task"] in ("chat", "both")]
    if not chats:
        pytest.skip("no model of this server is for chats")
    body = {"model": chats[0], "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 16}
    answer = service.request("/v1/chat/completions", body)
    assert answer["choices"][0]["finish_reason"] in ("stop", "length")
    assert answer["usage"]["completion_tokens"] > 0


def test_nobody_gets_in_without_a_key(service: Service) -> None:
    stranger = Service(service.base_url, service.certificate, "bp-00000000-" + "0" * 64)
    with pytest.raises(ServiceError, match="answered 401"):
        stranger.request("/v1/models")


def test_the_server_does_not_know_the_key(host: Any, service: Service) -> None:
    secret = service.key.rpartition("-")[2]
    # The pattern is built on the server from two halves, so that this search does not find itself in a process list.
    places = "/etc/bedplate /etc/systemd/system /etc/ansible /var/lib/bedplate"
    half = len(secret) // 2
    pattern = f"a={secret[:half]}; b={secret[half:]}"
    assert host.run(f'{pattern}; grep -rl "$a$b" {places}').stdout == ""
    units = "-u bedplate-inference -u nginx"
    assert host.run(f'{pattern}; journalctl --no-pager {units} | grep -c "$a$b"').stdout.strip() == "0"


def test_keys_are_readable_by_the_service_alone(host: Any) -> None:
    keys = host.file("/etc/bedplate/keys.yml")
    assert (keys.user, keys.group, keys.mode) == ("root", "bedplate", 0o640)


def test_the_sandbox_is_closed(host: Any) -> None:
    assert exposure(host, UNIT) <= MOST_EXPOSURE


def test_the_service_has_no_network_and_no_capability(host: Any) -> None:
    process = main_process(host)
    interfaces = host.run(f"cat /proc/{process}/net/dev").stdout.splitlines()[2:]
    assert [line.split(":")[0].strip() for line in interfaces] == ["lo"]
    status = host.run(f"cat /proc/{process}/status").stdout
    assert re.search(r"^CapEff:\s+0+$", status, re.MULTILINE)
    assert re.search(r"^NoNewPrivs:\s+1$", status, re.MULTILINE)
    assert host.run(f"stat -c %U /proc/{process}").stdout.strip() == "bedplate"


def test_the_code_that_runs_is_the_release_of_the_receipt(host: Any, receipt: dict[str, Any]) -> None:
    release = receipt["inference"]["release"]
    assert host.run("readlink /opt/bedplate/current").stdout.strip() == f"releases/{release}"
    assert host.run(f"readlink /proc/{main_process(host)}/cwd").stdout.strip().endswith(f"/releases/{release}")
    assert host.run(f"find /opt/bedplate/releases/{release} -perm /222 ! -type l").stdout == ""


def test_the_unit_names_environment_and_release_and_no_link_to_them(host: Any, receipt: dict[str, Any]) -> None:
    section = receipt["inference"]
    unit = host.run(f"systemctl cat {UNIT}").stdout
    assert f"ExecStart=/opt/bedplate/envs/{section['environment']}/bin/python " in unit
    assert f"WorkingDirectory=/opt/bedplate/releases/{section['release']}\n" in unit
    program = host.run(f"readlink /proc/{main_process(host)}/exe").stdout
    assert program.startswith(f"/opt/bedplate/envs/{section['environment']}/")


def test_what_runs_is_kept_to_come_back_to(host: Any, receipt: dict[str, Any]) -> None:
    folder = host.file("/var/lib/bedplate/generations")
    assert (folder.user, folder.mode) == ("root", 0o700)
    kept = json.loads(host.file(f"{folder.path}/current.json").content_string)
    assert kept["stamp"] == host.file("/var/lib/bedplate/stamps/inference").content_string.strip()
    assert kept["links"]["environment"]["target"] == receipt["inference"]["environment"]
    assert kept["receipt"]["inference"]["release"] == receipt["inference"]["release"]
    assert "/etc/bedplate/keys.yml" not in [one["path"] for one in kept["files"]]
