"""Air gap: a bundle is made where the internet is, then a bare server that reaches only the controller is installed from it.

Alone: ./bedplate test --only airgap
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from pathlib import Path

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from rich.console import Console

from ops.bundle import bundle as make_bundle
from ops.inventory import Host
from ops.paths import WORK
from ops.service import first_question, service_of
from ops.up import up
from tests.airgap.conftest import BUNDLE, INVENTORY, cut_off, site, tried
from tests.fixtures.hub.server import Hub
from tests.site.conftest import CONSOLE, explain


def on(server: Host, command: str) -> str:
    """Output of a command on the server."""
    with server.connection() as connection:
        return str(connection.run(command, hide=True, warn=True, timeout=60).stdout)


def test_a_bundle_is_made_by_running_the_roles(server: Host, hub: Hub) -> None:
    shutil.rmtree(BUNDLE, ignore_errors=True)
    began = time.monotonic()
    console = Console(stderr=True, record=True, width=200)
    assert make_bundle(INVENTORY, BUNDLE, console) == 0
    assert hashlib.sha256((BUNDLE / "bundle.json").read_bytes()).hexdigest() in console.export_text(clear=False)
    told = json.loads((BUNDLE / "bundle.json").read_text())
    CONSOLE.print(f"bundle: {told['bytes'] / 1e6:.0f} MB, {len(told['files'])} files, {time.monotonic() - began:.0f} s")
    names = {
        kind: {entry["name"] for entry in told["files"] if entry["kind"] == kind} for kind in ("deb", "wheel", "conda")
    }
    # None of these is written down anywhere as a thing to collect.
    assert {"nginx", "rsync", "python3-apt"} <= names["deb"]
    assert {"nvidia-kernel-dkms", "libcuda1", "dkms", "gcc", "linux-headers-amd64"} <= names["deb"]
    assert {"torch", "transformers", "uv"} <= names["wheel"]
    assert "python" in names["conda"]
    assert [model["requested"] for model in told["models"].values()] in (["hf://acme/tutor@main"], ["acme/tutor@main"])
    for kind in ("deb", "wheel", "conda", "installer"):
        assert all(entry["source"] for entry in told["files"] if entry["kind"] == kind), kind
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str((BUNDLE / "sbom.cdx.json").read_text()) is None


def test_a_damaged_bundle_is_refused_before_anything_changes(server: Host, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(BUNDLE, damaged)
    victim = next((damaged / "platforms").glob("*/wheels/torch-*.whl"))
    with victim.open("r+b") as stream:
        stream.seek(victim.stat().st_size // 2)
        byte = stream.read(1)
        stream.seek(-1, 1)
        stream.write(bytes([byte[0] ^ 1]))
    outcome = site(bundle=damaged)
    assert not outcome.ok and outcome.run.changed == 0, explain(outcome)
    assert "BP181" in outcome.run.failures[0].message and victim.name in outcome.run.failures[0].message
    shutil.rmtree(damaged)


def test_a_bundle_without_what_the_host_is_to_get_is_refused(server: Host, tmp_path: Path) -> None:
    for changed, named in (
        ({"platforms": {}}, "debian-12-x86_64"),
        ({"models": {}}, "acme/tutor"),
        ({"page": "old"}, "the chat page"),
    ):
        told = {**json.loads((BUNDLE / "bundle.json").read_text()), **changed, "files": []}
        (tmp_path / "bundle.json").write_text(json.dumps(told))
        outcome = site(bundle=tmp_path)
        assert not outcome.ok and outcome.run.changed == 0, explain(outcome)
        assert "BP182" in outcome.run.failures[0].message and named in outcome.run.failures[0].message, explain(outcome)


def test_a_bare_server_that_reaches_nothing_ends_with_a_chat_answer(server: Host) -> None:
    # The Hub is gone, and the page is not in the controller's work folder either.
    shutil.rmtree(WORK / "web", ignore_errors=True)
    with cut_off(server.address):
        # The cut works, and it counts.
        on(server, "timeout 5 getent hosts example.org; timeout 3 bash -c '</dev/tcp/192.0.2.1/80'")
        before = tried()
        assert before > 1
        assert up(INVENTORY, 1, 0, CONSOLE, BUNDLE) == 0
        assert tried() - before == 0, "the server tried to reach something else than the controller"
        receipt = json.loads(on(server, "cat /etc/ansible/facts.d/bedplate.fact"))
        assert receipt["nvidia_driver"]["version"].startswith("535.") and receipt["nvidia_driver"]["held"]
        assert receipt["cuda_match"]["variant"].startswith("cu")
        model, answer = service_of(server, INVENTORY / "secrets").chat(first_question())
        assert model == "tutor" and answer.startswith("Bedplate takes bare GPU servers to")
        again = site()
        assert again.ok and again.run.changed == 0, explain(again)
        assert tried() - before == 0


def test_a_wish_that_came_after_the_bundle_is_refused_and_the_service_runs_on(server: Host) -> None:
    outcome = site(demo_enabled=True)
    assert not outcome.ok and outcome.run.changed == 0, explain(outcome)
    said = outcome.run.failures[0].message
    assert "BP182" in said and "the environment demo-" in said
    assert service_of(server, INVENTORY / "secrets").request("/health/ready") == {"status": "ready"}
