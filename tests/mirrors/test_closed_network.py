"""site.yml in a closed network: the proxy is the only way, mirrors are over TLS with the company's own certificate authority."""

from __future__ import annotations

import json
from typing import Any

from ops.service import service_of
from tests.fixtures.mirror import Mirror
from tests.mirrors.conftest import FIXTURE, INVENTORY, Closed, site
from tests.site.conftest import explain

DEAD = 9  # the port "discard": nobody listens


def test_a_closed_server_is_provisioned_through_the_proxy_from_the_second_mirror(
    closed: Closed, stand_in: dict[str, Any]
) -> None:
    address = (closed.controller, 0)
    installer = stand_in["conda_installer_urls"][0].rpartition("/")[2]
    with (
        Mirror(FIXTURE, address, closed.authority) as mirror,
        Mirror(FIXTURE, address, closed.authority, wrong=True) as liar,
    ):
        dead = f"https://{closed.controller}:{DEAD}/conda-forge"
        wishes = {
            "bedplate_http_proxy": closed.proxy.url,
            "bedplate_ca_bundle": str(closed.authority.bundle),
            "sources_profile": "site",
            "sources_site": {"conda_forge": [dead, f"{mirror.url}/conda-forge"]},
            "conda_installer_urls": [f"{liar.url}/{installer}", f"{mirror.url}/{installer}"],
            "conda_installer_sha256": stand_in["conda_installer_sha256"],
        }
        checked = site("site.yml", check=True, **wishes)
        assert checked.ok, explain(checked)
        made = site("site.yml", **wishes)
        assert made.ok, explain(made)
        assert liar.served == [installer], "it was asked, and its bytes refused"
        assert installer in mirror.served and "conda-forge/noarch/repodata.json.zst" in mirror.served
        again = site("site.yml", **wishes)
        assert again.ok and again.run.changed == 0, explain(again)
        assert liar.served == [installer]
    asked = {host.rpartition(":")[0] for host in closed.proxy.asked}
    assert closed.controller in asked and len(asked) > 1, "the mirrors, and where apt and pip look"
    assert closed.blocked() == 0, "nothing went past the proxy"
    with closed.host.connection() as connection:
        receipt = json.loads(connection.run("cat /etc/ansible/facts.d/bedplate.fact", hide=True).stdout)
        trusted = connection.run("ls /usr/local/share/ca-certificates", hide=True).stdout.split()
    assert receipt["network"]["reached"] == {"conda_forge": f"{mirror.url}/conda-forge"}
    assert set(receipt["network"]["certificates"]) <= set(trusted) and len(receipt["network"]["certificates"]) == 1
    service = service_of(closed.host, INVENTORY / "secrets")
    assert service.chat("What is Bedplate?")[0] == "tutor"


def test_the_rules_of_this_test_do_block(closed: Closed) -> None:
    before = closed.blocked()
    with closed.host.connection() as connection:
        assert not connection.run(f"timeout 5 bash -c '</dev/tcp/{closed.controller}/{DEAD}'", warn=True, hide=True).ok
    assert closed.blocked() > before


def test_the_authority_is_forgotten_when_it_is_taken_out(closed: Closed) -> None:
    outcome = site("playbooks/infrastructure.yml", bedplate_http_proxy=closed.proxy.url)
    assert outcome.ok, explain(outcome)
    with closed.host.connection() as connection:
        assert "bedplate-" not in connection.run("ls /usr/local/share/ca-certificates", hide=True).stdout
        found = connection.run("grep -c . /etc/ssl/certs/ca-certificates.crt", hide=True).stdout
    assert int(found) > 1000, "the distribution's own stay"


def test_a_proxy_with_a_password_and_an_unknown_profile_are_refused_before_anything(closed: Closed) -> None:
    for code, wishes in {
        "BP170": {"bedplate_http_proxy": "http://me:hunter2@proxy:3128"},
        "BP171": {"bedplate_http_proxy": closed.proxy.url, "bedplate_ca_bundle": str(closed.authority.key)},
        "BP172": {"bedplate_http_proxy": closed.proxy.url, "sources_profile": "cm"},
    }.items():
        outcome = site("playbooks/infrastructure.yml", **wishes)
        assert not outcome.ok and outcome.run.changed == 0
        message = outcome.run.failures[0].message
        assert code in message and "Fix: " in message and "hunter2" not in message, message
