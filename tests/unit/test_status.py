"""The status as data and as a table: what a server runs in, and that it was rolled back."""

from __future__ import annotations

import io
import json
import time
from typing import Any

from rich.console import Console

from ops.inventory import Host
from ops.status import read, remarks, table

RECEIPT = {
    "nvidia_driver": {"version": "580.95.05"},
    "pytorch": {"version": "2.10.0", "variant": "cu128"},
    "model": {"models": [{"name": "tutor"}]},
    "inference": {"environment": "inference-1788c1d9c5b4", "release": "9a9d0a5ca4f4"},
}
LEFT = {"environment": "inference-e77089c6442f", "release": "9a9d0a5ca4f4", "torch": "2.13.0", "variant": "cu130"}
HOST = Host("gpu01", {"ansible_host": "192.0.2.11"})


def state_of(
    receipt: dict[str, Any],
    units: str = "active active active",
    ready: str = "200",
    *,
    host: Host = HOST,
    days: int = 90,
    drained: str = "-",
    renewal: str = "inactive",
) -> dict[str, Any]:
    until = time.strftime("%b %d %H:%M:%S %Y GMT", time.gmtime(time.time() + days * 86400 + 3600))
    told = [units, ready, " 44G", f"notAfter={until}", drained, renewal]
    return read(host, "\n".join([json.dumps(receipt), "@@@", *told, ""]))


def shown(state: dict[str, Any]) -> str:
    out = io.StringIO()
    Console(file=out, width=80).print(table([state]))
    return out.getvalue()


def test_a_row_fits_a_terminal_and_tells_driver_torch_and_environment() -> None:
    row = shown(state_of(RECEIPT)).splitlines()[1].split()
    assert row == ["gpu01", "580.95.05", "2.10.0+cu128", "1788c1d9c5b4", "tutor", "active", "44G", "90", "d", "✔"]


def test_a_stopped_unit_is_named() -> None:
    state = state_of(RECEIPT, "active active failed", "none")
    assert state["ready"] is False and {"service", "failed"} <= set(shown(state).split())


def test_a_bare_server_has_a_row_of_nothing() -> None:
    state = read(HOST, "{}\n@@@\ninactive inactive inactive\nnone\n44G\n")
    assert shown(state).splitlines()[1].split()[:2] == ["gpu01", "-"]
    assert list(remarks([state])) == []


def test_a_server_that_was_rolled_back_says_from_what_and_why() -> None:
    receipt = {**RECEIPT, "inference": {**RECEIPT["inference"], "rolled_back": {"from": LEFT, "why": "BP603 no start"}}}
    (remark,) = remarks([state_of(receipt)])
    assert "rolled back from inference-e77089c6442f (torch 2.13.0+cu130)" in remark and "BP603 no start" in remark


def test_an_unreachable_host_is_told_with_its_code() -> None:
    state = read(HOST, TimeoutError("no route"))
    assert shown(state).splitlines()[1].split()[-1] == "✗"
    assert [remark[:12] for remark in remarks([state])] == ["gpu01: BP008"]


def test_a_model_on_its_way_is_told_with_bytes_and_rate() -> None:
    progress = {
        "model": "qwen",
        "directory": "Qwen--Q@0",
        "done": 3_100_000_000,
        "total": 16_400_000_000,
        "rate": 212_000_000,
    }
    answer = f"{json.dumps(RECEIPT)}\n@@@\nactive active active\n200\n44G\n\n-\ninactive\n{json.dumps(progress)}{json.dumps({**progress, 'rate': 0})}"
    first, second = remarks([read(HOST, answer)])
    assert first == "gpu01: model qwen: 3.1 GB of 16.4 GB (18 %), 212 MB/s, 1:02 left"
    assert second == "gpu01: model qwen: 3.1 GB of 16.4 GB (18 %)"


def test_a_gateway_shows_its_servers_and_nginx_alone() -> None:
    receipt = {"nginx": {"servers": ["gpu01", "gpu02"]}}
    gateway = Host("gw01", {}, ("gateways",))
    row = shown(state_of(receipt, "active inactive inactive", host=gateway)).splitlines()[1].split()
    assert row == ["gw01", "-", "-", "-", "→", "gpu01,", "gpu02", "active", "44G", "90", "d", "✔"]


def test_a_drained_server_is_shown_and_how_it_comes_back() -> None:
    state = state_of(RECEIPT, drained="drained")
    assert "drained" in shown(state)
    (remark,) = remarks([state])
    assert "./bedplate undrain gpu01" in remark


def test_a_certificate_that_ends_soon_or_is_not_renewed_is_told() -> None:
    assert list(remarks([state_of(RECEIPT, days=14)])) == []
    (soon,) = remarks([state_of(RECEIPT, days=0)])
    assert "BP439" in soon and "found 0 days left" in soon
    (failed,) = remarks([state_of(RECEIPT, renewal="failed")])
    assert "BP439" in failed and "a renewal that failed" in failed
