"""Faults of transfers on live servers: killed, cut off, no room, flipped bytes, and three servers that share one download.

Alone: ./bedplate test --only models
"""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from ops.inventory import Host
from ops.model import BAD, OK, prune, show
from tests.fixtures.hub.server import Hub
from tests.models.conftest import BIG, INVENTORY, TOKEN, begun, is_whole, kill, progress, run, said, wait_for
from tests.site.conftest import explain


def noise(name: str) -> str:
    return f"acme/{name}/noise.safetensors"


def test_three_servers_cost_the_origin_one_download(servers: list[Host], hub: Hub, weights: Path) -> None:
    outcome = run(hub, "shared", limit=None)
    assert outcome.ok, explain(outcome)
    assert all(is_whole(server, hub, "shared", weights) for server in servers)
    assert hub.meter.sent[noise("shared")] < 1.1 * BIG
    # The first server listed and fetched; nobody else asked for anything.
    assert hub.meter.sent["acme/shared/tokenizer.json"] <= 2 * (weights / "tokenizer.json").stat().st_size
    again = run(hub, "shared", limit=None)
    assert again.ok and again.run.changed == 0, explain(again)


def test_the_token_is_nowhere_afterwards(servers: list[Host], hub: Hub) -> None:
    assert hub.leaked == []
    places = (
        "/run/bedplate-fetch /run/bedplate-share /run/systemd/transient /opt/bedplate /etc /var/log /var/lib/systemd"
    )
    # Spelled so that sudo's own note of this search is not found by it.
    spelled = f"{TOKEN[:-1]}[{TOKEN[-1]}]"
    for server in servers:
        found = said(server, f"grep -rl {spelled} {places} 2>/dev/null; journalctl --no-pager | grep -c {spelled}")
        assert found == "0", found
    assert not [path for path in Path(".bedplate/logs").glob("repair_models-*.log*") if TOKEN in _results(path)]


def _results(path: Path) -> str:
    """A log without its first line, the command this test itself gave the token to."""
    return path.read_text().partition("\n")[2]


def test_a_killed_download_fetches_at_most_5_percent_again(servers: list[Host], hub: Hub, weights: Path) -> None:
    hub.meter.rate = 8e6
    play = begun(hub, "killed")
    kept = wait_for(servers[0], BIG // 2, play)
    said(servers[0], 'systemctl kill --signal=KILL "bedplate-fetch-*"')
    assert kept < BIG, "killed in the middle"
    hub.meter.rate = 0
    # systemd starts the transfer again, and the play, still attached, sees it end.
    assert play.wait(timeout=300) == 0
    assert is_whole(servers[0], hub, "killed", weights)
    assert hub.meter.sent[noise("killed")] <= 1.05 * BIG
    log = (INVENTORY.parent / "killed.log").read_text()
    assert "model killed: " in log and "MB/s" in log, "it says how far it is"


def test_a_lost_connection_loses_nothing_and_a_rerun_attaches(servers: list[Host], hub: Hub, weights: Path) -> None:
    hub.meter.rate = 8e6
    play = begun(hub, "cut")
    before = wait_for(servers[0], BIG // 4, play)
    kill(play)
    said(servers[0], "ss -K state established sport = :22")
    assert wait_for(servers[0], before + BIG // 10) > before, "the transfer goes on by itself"
    started = said(servers[0], 'systemctl show --property=InvocationID --value "bedplate-fetch-*"')
    again = begun(hub, "cut")
    wait_for(servers[0], BIG // 2, again)
    assert said(servers[0], 'systemctl show --property=InvocationID --value "bedplate-fetch-*"') == started
    hub.meter.rate = 0
    assert again.wait(timeout=300) == 0
    assert is_whole(servers[0], hub, "cut", weights)
    assert hub.meter.sent[noise("cut")] <= 1.05 * BIG


def test_a_disk_without_room_is_refused_before_the_first_byte(servers: list[Host], hub: Hub, weights: Path) -> None:
    said(servers[0], "mkdir -p /mnt/small && mount -t tmpfs -o size=100m tmpfs /mnt/small")
    outcome = run(hub, "full", bedplate_root="/mnt/small")
    message = outcome.run.failures[0].message
    assert not outcome.ok and "BP506" in message and "Fix: " in message, explain(outcome)
    assert hub.meter.sent[noise("full")] < 1 << 20, "at most the header, to lock it"
    assert said(servers[0], "find /mnt/small -type f") == ""


def test_a_flipped_byte_is_found_offline_and_that_file_alone_is_repaired(
    servers: list[Host], hub: Hub, weights: Path
) -> None:
    first = run(hub, "flipped")
    assert first.ok, explain(first)
    path = f"/opt/bedplate/models/acme--flipped@{hub.repositories['acme/flipped'].commit[:12]}/model.safetensors"
    flip = f"touch -r {path} /tmp/time; chmod u+w {path}; printf X | dd of={path} bs=1 seek=100000 conv=notrunc; touch -r /tmp/time {path}"
    assert show(INVENTORY, "model1", True, False, Console(quiet=True)) == OK
    said(servers[0], flip)
    console = Console(width=300, record=True, quiet=False, file=(INVENTORY.parent / "verify.txt").open("w"))
    hub.served.clear()
    assert show(INVENTORY, "model1", True, False, console) == BAD
    assert "BP518" in console.export_text() and hub.served == [], "found without a connection"
    repaired = run(hub, "flipped")
    assert repaired.ok, explain(repaired)
    assert set(hub.served) == {"acme/flipped/model.safetensors"}
    assert is_whole(servers[0], hub, "flipped", weights)
    assert show(INVENTORY, "model1", True, False, Console(quiet=True)) == OK


def test_what_no_model_list_names_any_more_is_pruned_after_asking(servers: list[Host]) -> None:
    shown: list[str] = []

    def refuse(question: str) -> bool:
        shown.append(question)
        return False

    console = Console(quiet=True)
    assert prune(INVENTORY, "model1", False, refuse, console) == OK
    before = said(servers[0], "ls /opt/bedplate/models")
    assert "MB?" in shown[0] and "acme--killed" in before
    assert prune(INVENTORY, "model1", True, refuse, console) == OK
    after = said(servers[0], "ls /opt/bedplate/models")
    assert "acme--killed" not in after and "acme--flipped" in after, "the last receipt names the last one"
    assert progress(servers[0]) == 0
