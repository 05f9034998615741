"""The chat page comes with a policy that lets nothing else run, and is what was built."""

from __future__ import annotations

import json
import re
from typing import Any

from ops.service import Service
from tests.infra.test_60_nginx import asked

WEB = "/opt/bedplate/web"


def test_the_page_comes_with_a_policy_and_a_nonce_of_its_own(service: Service) -> None:
    nonces = set()
    for _ in range(2):
        status, headers, body = asked(service, "GET", "/")
        page, policy = body.decode(), headers["Content-Security-Policy"]
        assert status == 200 and '<div id="root">' in page
        assert "'unsafe-eval'" not in policy and "default-src 'none'" in policy
        assert not re.search(r"(script-src|style-src-elem)[^;]*'unsafe-inline'", policy)
        (nonce,) = set(re.findall(r'nonce="(\w+)"', page))
        assert f"'nonce-{nonce}'" in policy
        assert headers["Cache-Control"] == "no-store"
        nonces.add(nonce)
    assert len(nonces) == 2


def test_the_page_sends_the_headers_that_browsers_heed(service: Service) -> None:
    _, headers, _ = asked(service, "GET", "/")
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Referrer-Policy"] == "no-referrer"


def test_assets_are_kept_by_browsers_and_come_compressed(service: Service) -> None:
    _, _, page = asked(service, "GET", "/")
    assets = re.findall(r"assets/[\w.-]+", page.decode())
    assert assets
    for asset in assets:
        status, headers, _ = asked(service, "GET", f"/{asset}")
        assert status == 200 and "immutable" in headers["Cache-Control"]


def test_the_configuration_is_what_the_inventory_says(service: Service, receipt: dict[str, Any]) -> None:
    status, headers, body = asked(service, "GET", "/config.json")
    assert status == 200 and headers["Content-Type"] == "application/json"
    config = json.loads(body)
    assert config["title"] == receipt["web_client"]["title"] and config["apiBase"] == "/v1"


def test_every_byte_of_the_build_is_what_was_built(host: Any, receipt: dict[str, Any]) -> None:
    build = receipt["web_client"]["build"]
    assert host.run(f"readlink {WEB}/current").stdout.strip() == build
    manifest = json.loads(host.file(f"{WEB}/{build}/.manifest.json").content_string)
    sums = "".join(f"{entry['sha256']}  {entry['path']}\n" for entry in manifest["files"])
    checked = host.run(f"cd {WEB}/{build} && sha256sum --check --strict --quiet - <<'EOF'\n{sums}EOF")
    assert manifest["files"] and checked.rc == 0, checked.stdout
