"""From two bare servers and a gateway to one service that loses no request while its servers come and go."""

from __future__ import annotations

import concurrent.futures
import json
import re
import subprocess
import threading
import time
import uuid

import httpx2
import pytest

from ops.inventory import Host
from ops.paths import REPORTS, ROOT
from ops.service import Service, trust
from ops.verify import verify_command
from tests.gateway.conftest import INVENTORY, Cluster, on
from tests.load import Load
from tests.site.conftest import explain

ENOUGH = 1000
ASK_REQUESTS = """python3 - <<END
import ssl, urllib.request
both = ssl.create_default_context(cafile="/etc/bedplate/tls/link_ca.pem")
both.load_cert_chain("/etc/bedplate/tls/link.pem")
print(urllib.request.urlopen("{url}", context=both).read().decode())
END"""


def until_enough(load: Load) -> None:
    """Until the users have had the promised number of answers, or cannot any more."""
    began = time.monotonic()
    while len(load.seconds) + len(load.failures) < ENOUGH and time.monotonic() - began < 400:
        time.sleep(0.5)


def shares(cluster: Cluster, service: Service) -> list[int]:
    """How many of a hundred chats or some more each server answers; none fails."""
    before = [cluster.answered(server) for server in cluster.servers]
    with Load(service, rate=20) as load:
        while len(load.seconds) + len(load.failures) < 100:
            time.sleep(0.2)
    assert load.failures == []
    return [cluster.answered(server) - was for server, was in zip(cluster.servers, before, strict=True)]


def test_site_makes_servers_and_gateway(cluster: Cluster) -> None:
    outcome = cluster.site()
    assert outcome.ok, explain(outcome)


def test_second_run_and_check_mode_change_nothing(cluster: Cluster) -> None:
    for check in (False, True):
        outcome = cluster.site(check=check)
        assert outcome.ok and outcome.run.changed == 0, explain(outcome)


def test_every_layer_is_proven_on_servers_and_gateway(cluster: Cluster) -> None:
    verified = subprocess.run(
        verify_command(INVENTORY, REPORTS / "verify-gateway.xml"), cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert verified.returncode == 0, verified.stdout[-4000:]
    assert re.search(rf"^{cluster.gateway.name} .*✔", verified.stdout, re.MULTILINE), verified.stdout[-2000:]


def test_requests_are_spread_over_all_servers_and_one_key_fits_all(cluster: Cluster) -> None:
    gained = shares(cluster, cluster.service)
    assert sum(gained) >= 100 and min(gained) > 0.2 * sum(gained), gained


def test_a_rolling_restart_loses_no_request(cluster: Cluster) -> None:
    starts = [started(server) for server in cluster.servers]
    with Load(cluster.service, rate=20) as load:
        outcome = cluster.site("playbooks/rolling.yml", rolling_restart=True)
        until_enough(load)
    print(f"rolling restart: {load}")
    assert outcome.ok, explain(outcome)
    assert load.failures == [] and len(load.seconds) >= ENOUGH, str(load)
    assert all(started(server) > was for server, was in zip(cluster.servers, starts, strict=True))


def test_drain_and_undrain_lose_no_request_and_a_drained_server_gets_none(cluster: Cluster) -> None:
    server = cluster.servers[0]
    with Load(cluster.service, rate=20) as load:
        drained = cluster.site("playbooks/drain.yml", limit=server.name, drain_state="present")
        before = cluster.answered(server)
        time.sleep(5)
        during = cluster.answered(server) - before
        again = cluster.site("site.yml", limit=f"{server.name},{cluster.gateway.name}")
        kept = "drained" in on(server, "ls /etc/bedplate")
        undrained = cluster.site("playbooks/drain.yml", limit=server.name, drain_state="absent")
        until_enough(load)
        for _ in range(60):
            if cluster.answered(server) > before:
                break
            time.sleep(1)
    print(f"drain and undrain: {load}")
    assert drained.ok and again.ok and undrained.ok, explain(drained) + explain(again) + explain(undrained)
    assert during == 0 and kept, "a run of site.yml gives a drained server no requests"
    assert load.failures == [] and len(load.seconds) >= ENOUGH, str(load)
    assert cluster.answered(server) > before


def test_the_last_server_that_serves_is_not_drained(cluster: Cluster) -> None:
    first, second = cluster.servers
    assert cluster.site("playbooks/drain.yml", limit=first.name).ok
    refused = cluster.site("playbooks/drain.yml", limit=second.name)
    assert cluster.site("playbooks/drain.yml", limit=first.name, drain_state="absent").ok
    assert not refused.ok and "BP434" in refused.run.failures[0].message, explain(refused)
    assert refused.run.changed == 0


def started(server: Host) -> int:
    """How often systemd has started the service."""
    return int(on(server, "journalctl -u bedplate-inference.service -o cat | grep -c ^Started"))


def stream(service: Service) -> tuple[str, str]:
    """One long streamed answer: (its request id, "whole" or how the client saw that it was cut)."""
    name = f"cut-{uuid.uuid4()}"
    body = {"model": "tutor", "messages": [{"role": "user", "content": "What is Bedplate?"}], "stream": True}
    headers = {"Authorization": f"Bearer {service.key}", "X-Request-ID": name}
    text = ""
    try:
        with (
            httpx2.Client(verify=trust(service.certificate), timeout=120) as client,
            client.stream(
                "POST",
                f"{service.base_url}/v1/chat/completions",
                headers=headers,
                json={**body, "temperature": 2.0, "max_tokens": 900, "ignore_eos": True},
            ) as answer,
        ):
            for piece in answer.iter_text():
                text += piece
    except httpx2.HTTPError as error:
        return name, f"{type(error).__name__}: {error}"
    if answer.status_code != 200 or "[DONE]" not in text:
        return name, f"status {answer.status_code}, ends with {text[-200:]!r}"
    return name, "whole" if 'data: {"error"' not in text else "an error event"


def test_kill_9_of_a_service_cuts_its_own_streams_alone_and_clients_see_it(cluster: Cluster) -> None:
    victim, survivor = cluster.servers
    service = cluster.service
    killed = threading.Event()

    def streams() -> list[tuple[str, str]]:
        """One after the other, so that some are under way on each server whenever the service is killed."""
        found = [stream(service)]
        while not killed.is_set():
            found.append(stream(service))
        return found

    with concurrent.futures.ThreadPoolExecutor(24) as users, Load(service, rate=10) as load:
        watching = [users.submit(streams) for _ in range(24)]
        try:
            # Until the gateway has streams open on both.
            for server in cluster.servers:
                for _ in range(100):
                    if running(cluster, server) >= 4:
                        break
                    time.sleep(0.05)
            on(victim, "kill -9 $(systemctl show --value -p MainPID bedplate-inference.service)")
        finally:
            killed.set()
        ended = dict(one for user in watching for one in user.result())
        while not load.failures and len(load.seconds) < 50:
            time.sleep(0.2)
    cut = {name for name, how in ended.items() if how != "whole"}
    served = upstreams(cluster, list(ended))
    print(
        f"kill -9: {len(cut)} of {len(ended)} streams cut, {sum(victim.address in where for where in served.values())} were on {victim.name}; {load}"
    )
    assert cut, "no stream was under way on the server"
    assert all(victim.address in served[name] for name in cut), {name: ended[name] for name in cut}
    assert all(how == "whole" for name, how in ended.items() if survivor.address in served[name])
    # Who got no byte yet is asked again elsewhere: nobody but the streams notices.
    assert load.failures == [], load.failures


def running(cluster: Cluster, server: Host) -> int:
    """How many requests a server works on now, as its nginx tells gateways."""
    told = on(cluster.gateway, ASK_REQUESTS.format(url=f"https://{server.address}:8444/bedplate/requests"))
    found = re.search(r"Writing: (\d+)", told)
    assert found, told
    return int(found[1]) - 1


def upstreams(cluster: Cluster, names: list[str]) -> dict[str, str]:
    """The server that answered each request, from the gateway's log."""
    found = {}
    for _ in range(50):
        lines = on(cluster.gateway, "grep cut- /var/log/nginx/access.log").splitlines()
        found = {line["request_id"]: line["upstream"].split(", ")[-1] for line in map(json.loads, lines)}
        if set(names) <= set(found):
            return found
        time.sleep(0.2)
    pytest.fail(f"not in the gateway's log: {set(names) - set(found)}")


def test_a_server_that_is_away_costs_nobody_an_answer_and_comes_back_by_itself(cluster: Cluster) -> None:
    server = cluster.servers[1]
    on(server, "systemctl stop nginx")
    try:
        with Load(cluster.service, rate=10) as load:
            while len(load.seconds) + len(load.failures) < 60:
                time.sleep(0.2)
        assert load.failures == [], load.failures
    finally:
        on(server, "systemctl start nginx")
    time.sleep(2.5)  # as long as a gateway leaves a server alone that did not answer
    before = cluster.answered(server)
    with Load(cluster.service, rate=20) as load:
        while len(load.seconds) + len(load.failures) < 60:
            time.sleep(0.2)
    assert load.failures == [] and cluster.answered(server) > before
