"""A bare server: check mode works, and whatever cannot work is refused before anything is changed."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from ops.inventory import Host
from tests.site.conftest import INVENTORY, Play, explain


def is_untouched(host: Host) -> bool:
    """True while Bedplate has left nothing on the host."""
    with host.connection() as connection:
        return bool(
            connection.run(
                "! ls -d /opt/bedplate /etc/bedplate /etc/ansible/facts.d 2>/dev/null", warn=True, hide=True
            ).ok
        )


def test_check_mode_succeeds_on_a_bare_server(bare_server: Host, site: Play) -> None:
    outcome = site("site.yml", check=True)
    assert outcome.ok, explain(outcome)
    assert is_untouched(bare_server)


@pytest.mark.parametrize(
    ("variables", "refusals"),
    [
        (
            {"nginx_https_prt": 8443, "nvidia_driver_policy": "sometimes"},
            {"BP111": "did you mean nginx_https_port?", "BP110": "nvidia_driver_policy"},
        ),
        (
            {"preflight_disk_gib": 100000, "preflight_memory_gib": 100000, "nginx_https_port": 22},
            {"BP105": "wanted 100000", "BP103": "wanted 100000 GiB", "BP106": "sshd listening on it"},
        ),
    ],
    ids=["variables", "server"],
)
def test_all_that_is_wrong_is_refused_at_once_each_with_code_cause_and_fix(
    bare_server: Host, site: Play, variables: dict[str, Any], refusals: dict[str, str]
) -> None:
    outcome = site("site.yml", **variables)
    assert not outcome.ok
    lines = outcome.run.failures[0].message.splitlines()
    for code, said in refusals.items():
        assert [line for line in lines if line.startswith(code) and said in line and "Fix: " in line], (code, lines)
    assert outcome.run.changed == 0
    assert is_untouched(bare_server)


def test_an_unsupported_system_and_a_taken_port_stop_before_changing_anything(bare_server: Host, site: Play) -> None:
    with bare_server.connection() as connection:
        connection.run("sudo cp --remove-destination /usr/lib/os-release /etc/os-release.kept", hide=True)
        connection.run("sudo sed -i 's/12/11/; s/bookworm/bullseye/' /usr/lib/os-release", hide=True)
        connection.run(
            "echo 11.9 | sudo tee /etc/debian_version && sudo cp /etc/debian_version /etc/debian_version.bad", hide=True
        )
        connection.run("sudo systemd-run --unit=squatter python3 -m http.server 443", hide=True)
        try:
            outcome = site("site.yml")
        finally:
            connection.run("sudo systemctl stop squatter; sudo cp /etc/os-release.kept /usr/lib/os-release", hide=True)
            connection.run(
                "sudo rm /etc/os-release.kept /etc/debian_version.bad; echo 12.15 | sudo tee /etc/debian_version",
                hide=True,
            )
    assert not outcome.ok
    message = outcome.run.failures[0].message
    assert "BP101" in message and "Debian 11" in message and "Debian 12/13" in message
    assert "BP106" in message and "python3 listening on it" in message
    assert outcome.run.changed == 0
    assert is_untouched(bare_server)


def test_an_unreachable_host_is_named_and_the_other_goes_on(bare_server: Host, site: Play, tmp_path: Path) -> None:
    inventory = tmp_path / "inventory"
    shutil.copytree(INVENTORY, inventory)
    listed = yaml.safe_load((inventory / "hosts.yml").read_text())
    # 192.0.2.0/24 is reserved for documentation: nobody is there. A port of this machine nobody listens on answers at once.
    listed["all"]["children"]["gpu_servers"]["hosts"]["gone"] = {"ansible_host": "127.0.0.1", "ansible_port": 9}
    (inventory / "hosts.yml").write_text(yaml.safe_dump(listed))
    outcome = site("playbooks/infrastructure.yml", inventory=inventory, check=True)
    assert [failure.host for failure in outcome.run.failures] == ["gone"]
    assert "BP100" in outcome.run.failures[0].message and "Fix: ssh 127.0.0.1" in outcome.run.failures[0].message
    assert outcome.run.stats[bare_server.name]["failures"] == 0
    assert outcome.run.stats[bare_server.name]["ok"] > 5


def test_a_wrong_installer_is_refused_and_nothing_is_installed(bare_server: Host, site: Play) -> None:
    outcome = site("site.yml", conda_installer_sha256="0" * 64)
    assert not outcome.ok
    message = outcome.run.failures[0].message
    assert "BP2" in message and "0" * 64 in message and "Fix: " in message, message
    with bare_server.connection() as connection:
        assert connection.run("test ! -e /opt/bedplate/conda", warn=True, hide=True).ok
