"""A GPU server that is a gateway, too, beside another gateway: clients may use either."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ops.service import service_of
from tests.gateway.conftest import INVENTORY, Cluster
from tests.gateway.test_10_balanced import shares
from tests.site.conftest import explain

BOTH = INVENTORY / "both.yml"


@pytest.fixture(scope="module")
def cluster_with_both(cluster: Cluster) -> Iterator[Cluster]:
    """The first server is in the group gateways as well, as long as these tests run."""
    first = cluster.servers[0].name
    BOTH.write_text(f"gateways:\n  hosts:\n    {first}:\n")
    try:
        made = cluster.site(limit=first)
        assert made.ok, explain(made)
        yield cluster
    finally:
        BOTH.unlink()
        assert cluster.site(limit=first).ok


def test_a_second_run_changes_nothing(cluster_with_both: Cluster) -> None:
    again = cluster_with_both.site()
    assert again.ok and again.run.changed == 0, explain(again)


def test_both_gateways_spread_requests_over_all_servers(cluster_with_both: Cluster) -> None:
    both = service_of(cluster_with_both.servers[0], INVENTORY / "secrets")
    for service in (both, cluster_with_both.service):
        gained = shares(cluster_with_both, service)
        assert min(gained) > 0.2 * sum(gained), gained


def test_a_drained_server_goes_on_as_a_gateway(cluster_with_both: Cluster) -> None:
    first, _ = cluster_with_both.servers
    drained = cluster_with_both.site("playbooks/drain.yml", limit=first.name, drain_state="present")
    try:
        assert drained.ok, explain(drained)
        on_first, on_second = shares(cluster_with_both, service_of(first, INVENTORY / "secrets"))
    finally:
        assert cluster_with_both.site("playbooks/drain.yml", limit=first.name, drain_state="absent").ok
    assert on_first == 0 and on_second >= 100
