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

from ops.inventory import Host, InventoryError, hosts
from plugins.module_utils.bedplate.sizes import transfer_words

# One shell for one SSH round trip: the receipt, then each unit's state and the readiness of the service.
SCRIPT = r"""
cat /etc/ansible/facts.d/bedplate.fact 2>/dev/null || echo '{}'
echo @@@
systemctl is-active nginx bedplate-inference.socket bedplate-inference.service 2>/dev/null | paste -sd' '
sudo -n timeout 15 python3 -c '
import http.client, socket
ask = http.client.HTTPConnection("localhost")
ask.sock = socket.socket(socket.AF_UNIX)
ask.sock.connect("/run/bedplate/inference.sock")
ask.request("GET", "/health/ready")
print(ask.getresponse().status)' 2>/dev/null || echo none
df --output=avail -BG /opt 2>/dev/null | tail -n 1
sudo -n openssl x509 -noout -enddate -in /etc/bedplate/tls/server.pem 2>/dev/null || echo
cat /run/bedplate-fetch/*/progress.json 2>/dev/null
"""


def status(inventory: Path, console: Console, as_json: bool = False) -> int:
    """Print the table (or JSON); returns 0 when every server is reached and ready, 1 otherwise, 2 for a bad inventory."""
    try:
        targets = hosts(inventory)
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
    lines = [line.strip() for line in rest.strip().splitlines()] + [""] * 4
    return {
        "host": host.name,
        "url": host.base_url,
        "ready": lines[1] == "200",
        "units": dict(zip(("nginx", "socket", "service"), lines[0].split(), strict=False)),
        "disk_free": lines[2],
        "certificate_until": lines[3].removeprefix("notAfter="),
        "transfers": transfers(lines[4:]),
        "receipt": json.loads(receipt_text),
    }


def transfers(lines: list[str]) -> list[dict[str, Any]]:
    """The models on their way, as their transfers note it: model, done, total, rate."""
    # One object after the other, without anything between them.
    found = "".join(lines).replace("}{", "}\n{").split("\n")
    return [json.loads(one) for one in found if one.startswith("{")]


COLUMNS = ("host", "driver", "PyTorch", "environment", "models", "units", "free", "TLS until", "ready")


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
            ", ".join(model["name"] for model in receipt.get("model", {}).get("models", [])) or "-",
            ", ".join(f"{unit} {is_}" for unit, is_ in state["units"].items() if is_ != "active") or "active",
            state["disk_free"],
            date_of(state["certificate_until"]),
            "✔" if state["ready"] else "✗",
        )
    return result


def date_of(openssl: str) -> str:
    """ "Dec 25 03:38:21 2027 GMT" as 2027-12-25."""
    return time.strftime("%Y-%m-%d", time.gmtime(ssl.cert_time_to_seconds(openssl))) if openssl else "-"


def remarks(states: list[dict[str, Any]]) -> Iterator[str]:
    """What a row cannot say: why a host was not reached, and what a server was rolled back from."""
    for state in states:
        if "problem" in state:
            yield f"{state['host']}: BP008 not reached: {state['problem']}. Fix: ssh to it by hand."
            continue
        for transfer in state["transfers"]:
            yield f"{state['host']}: {transfer_words(transfer['model'], transfer)}"
        left = state["receipt"].get("inference", {}).get("rolled_back")
        if left:
            was = left["from"]
            yield (
                f"{state['host']}: rolled back from {was['environment']} (torch {was['torch']}+{was['variant']}), release {was['release']}. "
                f"Why: {left['why']}. The next site.yml goes forward again."
            )
