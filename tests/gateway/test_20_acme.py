"""A certificate from an authority (a real one, Pebble): got, shown, renewed by the server itself under load; a refusal harms nobody."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from ops.inventory import Host
from ops.paths import WORK
from tests.fixtures.acme import HOOK, Authority
from tests.gateway.conftest import INVENTORY, Cluster, on
from tests.gateway.test_10_balanced import ENOUGH, until_enough
from tests.load import Load
from tests.site.conftest import explain

SETTINGS = INVENTORY / "group_vars" / "gateways" / "acme.yml"
NAME = "chat.bedplate.test"
SITE = "playbooks/gateways.yml"


def settings(authority: Authority, **more: Any) -> None:
    """The gateway's variables from now on."""
    SETTINGS.parent.mkdir(parents=True, exist_ok=True)
    acme = {
        "nginx_tls_mode": "acme",
        "nginx_acme_agree_tos": True,
        "nginx_acme_directory": authority.directory,
        "nginx_acme_ca_file": str(authority.ca_file),
        "nginx_acme_names": [NAME],
    }
    SETTINGS.write_text(yaml.safe_dump({**acme, **more}))


@pytest.fixture(scope="module")
def authority(cluster: Cluster) -> Iterator[Authority]:
    controller = ".".join([*cluster.gateway.address.split(".")[:3], "1"])
    with Authority(WORK / "test" / "pebble", controller, leads_to=cluster.gateway.address) as running:
        settings(running)
        # It has just been started and knows no account and no certificate.
        on(cluster.gateway, "rm -rf /var/lib/bedplate/acme")
        yield running
    SETTINGS.unlink()


def shown(host: Host, authority: Authority) -> dict[str, Any]:
    """The certificate that clients see, verified as one of the authority's for the name."""
    context = ssl.create_default_context(cadata=authority.root)
    with (
        socket.create_connection((host.address, 443), timeout=20) as plain,
        context.wrap_socket(plain, server_hostname=NAME) as secure,
    ):
        return dict(secure.getpeercert() or {})


def test_without_consent_or_name_nothing_is_asked_for(cluster: Cluster, authority: Authority) -> None:
    wrongs: list[dict[str, Any]] = [{"nginx_acme_agree_tos": False}, {"nginx_acme_names": []}]
    for wrong in wrongs:
        refused = cluster.site(SITE, **wrong)
        assert not refused.ok and "BP431" in refused.run.failures[0].message, explain(refused)
        assert refused.run.changed == 0


def test_a_refused_certificate_leaves_the_site_as_it_was(cluster: Cluster, authority: Authority) -> None:
    authority.lead_names_to(authority.address)  # where nobody answers on port 80
    refused = cluster.site(SITE)
    authority.lead_names_to(cluster.gateway.address)
    assert not refused.ok and "BP432" in refused.run.failures[0].message, explain(refused)
    assert cluster.service.chat("What is Bedplate?")[0] == "tutor"


def test_the_authority_certifies_the_name_by_http(cluster: Cluster, authority: Authority) -> None:
    outcome = cluster.site(SITE)
    assert outcome.ok, explain(outcome)
    assert shown(cluster.gateway, authority)["subjectAltName"] == (("DNS", NAME),)
    again = cluster.site(SITE)
    assert again.ok and again.run.changed == 0, explain(again)


def test_the_server_renews_it_by_itself_under_load(cluster: Cluster, authority: Authority) -> None:
    assert "bedplate-acme.timer" in on(cluster.gateway, "systemctl list-timers --no-pager bedplate-acme.timer")
    was, context = shown(cluster.gateway, authority)["serialNumber"], ssl.create_default_context(cadata=authority.root)
    context.check_hostname = False  # its address is not in the certificate
    with Load(cluster.service, rate=20, context=context) as load:
        # One that has just been got is not renewed; without it, as at the end of its life, another one is.
        on(cluster.gateway, "systemctl start bedplate-acme.service")
        kept = shown(cluster.gateway, authority)["serialNumber"]
        on(cluster.gateway, "rm -r /var/lib/bedplate/acme/certs-*; systemctl start bedplate-acme.service")
        until_enough(load)
    print(f"renewal: {load}")
    renewed = shown(cluster.gateway, authority)["serialNumber"]
    assert kept == was and renewed != was
    assert load.failures == [] and len(load.seconds) >= ENOUGH, str(load)
    again = cluster.site(SITE)
    assert again.ok and again.run.changed == 0, explain(again)


def test_the_network_facing_part_runs_in_a_sandbox_without_rights(cluster: Cluster, authority: Authority) -> None:
    told = on(cluster.gateway, "systemd-analyze security --no-pager bedplate-acme.service | tail -n 1")
    assert float(told.split("bedplate-acme.service:")[1].split()[0]) < 2.0, told
    assert on(cluster.gateway, "systemctl show --value -p User bedplate-acme.service") == "bedplate-acme"


def test_a_hook_proves_the_name_by_dns(cluster: Cluster, authority: Authority) -> None:
    was = shown(cluster.gateway, authority)["serialNumber"]
    authority.lead_names_to(authority.address)  # HTTP cannot be what proves it
    dns = {"nginx_acme_challenge": "dns-01", "nginx_acme_dns_hook": str(HOOK)}
    settings(authority, **dns, nginx_acme_dns_credentials=authority.dns_management)
    on(cluster.gateway, "rm -r /var/lib/bedplate/acme/certs-*")
    outcome = cluster.site(SITE)
    authority.lead_names_to(cluster.gateway.address)
    assert outcome.ok, explain(outcome)
    assert shown(cluster.gateway, authority)["serialNumber"] != was
    assert on(cluster.gateway, "stat -c %a:%U /etc/bedplate/acme/dns-credentials") == "600:root"


def test_a_self_signed_certificate_comes_back(cluster: Cluster, authority: Authority) -> None:
    outcome = cluster.site(SITE, nginx_tls_mode="selfsigned")
    assert outcome.ok, explain(outcome)
    assert cluster.service.chat("What is Bedplate?")[0] == "tutor"
    assert on(cluster.gateway, "systemctl is-enabled bedplate-acme.timer || true") != "enabled"
