"""Layer tests read live servers: the host of each test, the evidence when one fails, and the table at the end."""

from __future__ import annotations

import json
import re
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from ops.inventory import servers_and_gateways
from ops.service import Service, service_of

# What to show when a test of a layer fails: the units whose journal and the packages whose versions explain it.
UNITS = {
    "nginx": ["nginx"],
    "gateways": ["nginx"],
    "inference": ["bedplate-inference.service", "bedplate-inference.socket"],
    "demo": ["bedplate-demo.service"],
}
VERSIONS = (
    "cat /etc/os-release | head -n 1; uname -r; dpkg-query -W nginx 2>/dev/null; cat /etc/ansible/facts.d/bedplate.fact"
)


# What a host that is a gateway alone has.
GATEWAY_LAYERS = {"preflight", "nginx", "gateways", "web_client"}


def layer_of(path: Path) -> str:
    """test_60_nginx.py -> nginx"""
    return re.sub(r"^test_\d+_", "", path.stem)


@pytest.fixture(scope="module")
def receipt(host: Any) -> dict[str, Any]:
    """What Bedplate decided and installed on this host."""
    content = host.file("/etc/ansible/facts.d/bedplate.fact").content_string
    loaded: dict[str, Any] = json.loads(content)
    return loaded


@pytest.fixture(scope="module")
def variables(host: Any) -> dict[str, Any]:
    """The inventory's variables of this host."""
    return dict(host.ansible.get_variables())


@pytest.fixture(scope="module", autouse=True)
def _the_host_has_the_layer(request: pytest.FixtureRequest, variables: dict[str, Any]) -> None:
    if "gpu_servers" not in variables["group_names"] and layer_of(request.path) not in GATEWAY_LAYERS:
        pytest.skip("a gateway runs no model")


@pytest.fixture(scope="module")
def machine(variables: dict[str, Any]) -> dict[str, str]:
    """Where this host's hardware is looked at: the real machine, unless a test put a recorded one there."""
    real = {"proc": "/proc", "sys": "/sys", "dev": "/dev", "path": "", "root": "/"}
    return {**real, **variables.get("bedplate_machine", {})}


@pytest.fixture(scope="module")
def service(host: Any, request: pytest.FixtureRequest) -> Service:
    """The service as its users reach it; its certificate is the one the receipt names."""
    inventory = Path(request.config.getoption("ansible_inventory"))
    folder = inventory if inventory.is_dir() else inventory.parent
    (server,) = (one for one in servers_and_gateways(inventory) if host.backend.host in (one.name, one.address))
    return service_of(server, folder / "secrets")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add journal and versions to a failed test's report, note every result for the table."""
    report = yield
    host = getattr(item, "funcargs", {}).get("host")
    layer, name = layer_of(item.path), str(host.backend.host) if host else "-"
    if report.failed and host:
        commands = {
            f"journal of {unit}": f"journalctl -u {unit} -n 40 --no-pager -o cat" for unit in UNITS.get(layer, [])
        }
        for title, command in {**commands, "versions": VERSIONS}.items():
            try:
                found = host.run(command).stdout
            except RuntimeError as error:
                # What testinfra raises when SSH itself fails; the test's own failure says the rest.
                found = f"not read: {error}"
            report.sections.append((f"{title} on {name}", found))
    if host and (report.when == "call" or report.outcome != "passed"):
        table = item.config.stash.setdefault(TABLE, {})
        table.setdefault(name, {}).setdefault(layer, []).append(report.outcome)
    return report


TABLE = pytest.StashKey[dict[str, dict[str, list[str]]]]()


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """host × layer: passed/all, or skipped."""
    table = config.stash.get(TABLE, {})
    if not table:
        return
    numbers = {layer_of(path): int(path.stem.split("_")[1]) for path in Path(__file__).parent.glob("test_*.py")}
    layers = sorted({layer for row in table.values() for layer in row}, key=numbers.__getitem__)
    width = max(len(name) for name in table)
    terminalreporter.section("hosts and layers")
    terminalreporter.write_line(" " * width + "  " + "  ".join(layers))
    for name, row in sorted(table.items()):
        cells = []
        for layer in layers:
            outcomes = row.get(layer, [])
            passed, ran = outcomes.count("passed"), len([o for o in outcomes if o != "skipped"])
            cell = "-" if not ran else f"{'✔' if passed == ran else '✗'} {passed}/{ran}"
            cells.append(cell.ljust(len(layer)))
        terminalreporter.write_line(name.ljust(width) + "  " + "  ".join(cells))
