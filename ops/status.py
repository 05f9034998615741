"""`./bedplate status`: what each server runs, in one table."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fabric import ThreadingGroup
from fabric.exceptions import GroupException
from rich.console import Console
from rich.table import Table

from ops.inventory import GROUP, Host, InventoryError, servers_and_gateways
from plugins.module_utils.bedplate.sizes import transfer_words

# One shell for one SSH round trip: the receipt, then each unit's state and the readiness of the service.
SCRIPT = r"""
cat /etc/ansible/facts.d/bedplate.fact 2>/dev/null || echo '{}'
echo @@@
systemctl is-active nginx bedplate-inference.socket bedplate-inference.service 2>/dev/null | paste -sd' '
sudo -n timeout 15 python3 -c '
import http.client, json, os, socket, ssl
path, receipt = "/run/bedplate/inference.sock", "/etc/ansible/facts.d/bedplate.fact"
if os.path.exists(path):
    ask = http.client.HTTPConnection("localhost")
    ask.sock = socket.socket(socket.AF_UNIX)
    ask.sock.connect(path)
else:  # a gateway asks its servers
    port = json.load(open(receipt))["nginx"]["https_port"]
    ask = http.client.HTTPSConnection("127.0.0.1", port, context=ssl._create_unverified_context())
ask.request("GET", "/health/ready")
print(ask.getresponse().status)' 2>/dev/null || echo none
df --output=avail -BG /opt 2>/dev/null | tail -n 1
sudo -n openssl x509 -noout -enddate -in /etc/bedplate/tls/server.pem 2>/dev/null || echo
test -e /etc/bedplate/drained && echo drained || echo -
systemctl is-failed bedplate-acme.service
cat /run/bedplate-fetch/*/progress.json 2>/dev/null
"""


def status(inventory: Path, console: Console, as_json: bool = False) -> int:
    """Print the table (or JSON); returns 0 when every server is reached and ready, 1 otherwise, 2 for a bad inventory."""
    try:
        targets = servers_and_gateways(inventory)
    except InventoryError as error:
        console.print(str(error), highlight=False, markup=False)
        return 2
    states = [read(host, outcome) for host, outcome in ask(targets)]
    if as_json:
        console.print_json(data=states)
    else:
        console.print(table(states))
        for remark in remarks(states):
            console.print(remark, highlight=False, markup=False, soft_wrap=True)
    return 0 if all(state["ready"] for state in states) else 1


def ask(targets: list[Host], script: str = SCRIPT) -> list[tuple[Host, str | Exception]]:
    """What each server said, in the inventory's order: the script's output, or why it could not be asked."""
    connections = [host.connection() for host in targets]
    group = ThreadingGroup.from_connections(connections)
    try:
        answers: Any = group.run(script, hide=True, timeout=30, warn=True)
    except GroupException as error:
        # One dead host does not hide the rest.
        answers = error.result
    finally:
        group.close()
    return [
        (host, answer if isinstance(answer, Exception) else str(answer.stdout))
        for host, answer in ((host, answers[connection]) for host, connection in zip(targets, connections, strict=True))
    ]


def read(host: Host, answer: str | Exception) -> dict[str, Any]:
    """The state of one server as plain data."""
    if isinstance(answer, Exception):
        return {
            "host": host.name,
            "url": host.base_url,
            "ready": False,
            "problem": f"{type(answer).__name__}: {answer}",
        }
    receipt_text, _, rest = answer.partition("@@@")
    lines = [line.strip() for line in rest.strip().splitlines()] + [""] * 6
    units = ("nginx", "socket", "service") if GROUP in host.groups else ("nginx",)
    until = lines[3].removeprefix("notAfter=")
    return {
        "host": host.name,
        "url": host.base_url,
        "ready": lines[1] == "200",
        "units": dict(zip(units, lines[0].split(), strict=False)),
        "disk_free": lines[2],
        "certificate_until": until,
        "certificate_days_left": int((ssl.cert_time_to_seconds(until) - time.time()) // 86400) if until else None,
        "drained": lines[4] == "drained",
        "renewal_failed": lines[5] == "failed",
        "transfers": transfers(lines[6:]),
        "receipt": json.loads(receipt_text),
    }


def transfers(lines: list[str]) -> list[dict[str, Any]]:
    """The models on their way, as their transfers note it: model, done, total, rate."""
    # One object after the other, without anything between them.
    found = "".join(lines).replace("}{", "}\n{").split("\n")
    return [json.loads(one) for one in found if one.startswith("{")]


COLUMNS = ("host", "driver", "PyTorch", "environment", "models", "units", "free", "TLS", "ready")
# A certificate that has fewer days left is remarked on.
FEW_DAYS = 14


def table(states: list[dict[str, Any]]) -> Table:
    """A row per host: what drives its GPUs, what the service runs in, what it serves, and whether it is ready."""
    result = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for column in COLUMNS:
        result.add_column(column, no_wrap=column not in ("models", "units"))
    for state in states:
        if "problem" in state:
            result.add_row(state["host"], *["-"] * (len(COLUMNS) - 2), "✗")
            continue
        receipt = state["receipt"]
        torch = receipt.get("pytorch", {})
        result.add_row(
            state["host"],
            str(receipt.get("nvidia_driver", {}).get("version", "-")),
            f"{torch['version']}+{torch['variant']}" if "version" in torch else "-",
            str(receipt.get("inference", {}).get("environment", "-")).removeprefix("inference-"),
            serves(receipt),
            ", ".join(f"{unit} {is_}" for unit, is_ in state["units"].items() if is_ != "active") or "active",
            state["disk_free"],
            "-" if state["certificate_days_left"] is None else f"{state['certificate_days_left']} d",
            "drained" if state["drained"] else "✔" if state["ready"] else "✗",
        )
    return result


def serves(receipt: dict[str, Any]) -> str:
    """The models of a server, or the servers of a gateway."""
    models = ", ".join(model["name"] for model in receipt.get("model", {}).get("models", []))
    servers = ", ".join(receipt.get("nginx", {}).get("servers", []))
    return "; ".join(filter(None, (models, f"→ {servers}" if servers else ""))) or "-"


def remarks(states: list[dict[str, Any]]) -> Iterator[str]:
    """What a row cannot say: why a host was not reached, what a server was rolled back from, what will soon be amiss."""
    for state in states:
        if "problem" in state:
            yield f"{state['host']}: BP008 not reached: {state['problem']}. Fix: ssh to it by hand."
            continue
        for transfer in state["transfers"]:
            yield f"{state['host']}: {transfer_words(transfer['model'], transfer)}"
        if state["drained"]:
            yield f"{state['host']}: drained: gateways send it nothing. ./bedplate undrain {state['host']} gives requests back."
        days = state["certificate_days_left"]
        if state["renewal_failed"] or (days is not None and days < FEW_DAYS):
            yield (
                f"{state['host']}: BP439 the certificate needs a look: found {days} days left"
                f"{' and a renewal that failed' if state['renewal_failed'] else ''}, wanted {FEW_DAYS} or more. "
                "Fix: run site.yml; where an authority certifies it, journalctl -u bedplate-acme.service on the server says why."
            )
        left = state["receipt"].get("inference", {}).get("rolled_back")
        if left:
            was = left["from"]
            yield (
                f"{state['host']}: rolled back from {was['environment']} (torch {was['torch']}+{was['variant']}), release {was['release']}. "
                f"Why: {left['why']}. The next site.yml goes forward again."
            )
