"""The servers behind a gateway, as its upstream names them, and which files of a list are due."""

from __future__ import annotations

import hashlib
import importlib.util
from types import ModuleType

import pytest

from ops.gateway import known
from ops.inventory import Host, InventoryError, entrance
from tests.unit.conftest import ROOT


def filters() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bedplate_gateway", ROOT / "plugins/filter/bedplate_gateway.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GATEWAY = filters()


def test_a_servers_own_variables_go_before_the_defaults() -> None:
    hostvars = {
        "gpu01": {"ansible_host": "192.0.2.11"},
        "gpu02": {"ansible_host": "192.0.2.12", "nginx_link_address": "fd00::2", "nginx_link_port": "9444"},
        "gpu03.example.org": {"nginx_link_weight": "2"},
    }
    found = GATEWAY.gateway_servers(hostvars, hostvars, 8444, 8445)
    assert [(one["address"], one["port"], one["wait_port"], one["weight"]) for one in found] == [
        ("192.0.2.11", 8444, 8445, 1),
        ("[fd00::2]", 9444, 8445, 1),
        ("gpu03.example.org", 8444, 8445, 2),
    ]
    assert GATEWAY.link_url("gpu02", hostvars) == "https://[fd00::2]:9444"


def test_a_server_takes_as_many_requests_as_it_has_engines() -> None:
    chat, search = {"name": "chat", "replicas": 4}, {"name": "search"}
    hostvars = {
        "default": {},
        "one": {"model_list": [search]},
        "four": {"model_list": [chat, search]},
        "named": {"model_list": [{"name": "chat", "devices": ["cuda:0", "cuda:2"]}]},
        "none": {"model_list": []},
        "own": {"model_list": [chat], "nginx_link_weight": 2},
        "not own": {"model_list": [chat], "nginx_link_weight": 0},
    }
    found = GATEWAY.gateway_servers(hostvars, hostvars, 8444, 8445)
    assert {one["name"]: one["weight"] for one in found} == {
        "default": 1, "one": 1, "four": 5, "named": 2, "none": 1, "own": 2, "not own": 4
    }  # fmt: skip


def test_a_file_is_due_when_text_or_mode_differ() -> None:
    wanted = GATEWAY.with_texts(
        [{"dest": "/a"}, {"dest": "/b", "mode": "0755"}, {"dest": "/c"}], ["one", "two", "three"]
    )
    there = {"sha256": hashlib.sha256(b"two").hexdigest(), "mode": "0644"}
    found = {"/a": {"sha256": hashlib.sha256(b"one").hexdigest(), "mode": "0644"}, "/b": there, "/c": None}
    assert GATEWAY.files_due(wanted, found) == ["/b", "/c"]


def test_clients_go_to_the_gateways_where_there_are_any() -> None:
    server, gateway, both = Host("a", {}), Host("b", {}, ("gateways",)), Host("c", {}, ("gpu_servers", "gateways"))
    assert entrance([server]) == [server]
    assert entrance([server, gateway, both]) == [gateway, both]


def test_an_unknown_server_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ops.gateway.hosts", lambda _: [Host("gpu01", {})])
    known(ROOT, "gpu01")
    with pytest.raises(InventoryError, match=r"BP438 .*gpu02.*gpu01"):
        known(ROOT, "gpu02")
