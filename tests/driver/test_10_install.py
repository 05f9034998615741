"""A GPU server as delivered gets the driver that is wanted: consent to reboot, holds, receipt, and a second run that does nothing.

Driver packages are small stand-ins (tests/fixtures/driver_packages); apt, dpkg, systemd and the reboot are real.
"""

from __future__ import annotations

from tests.driver.conftest import OLD
from tests.driver.servers import Server, explain, messages

WANTED = {"nvidia_driver_branch": "470"}


def test_check_mode_on_a_bare_server_changes_nothing(bare_servers: list[Server]) -> None:
    server = bare_servers[0]
    before = server.state()
    outcome = server.infrastructure(check=True, **WANTED)
    assert outcome.ok, explain(outcome)
    assert server.state() == before
    assert before.packages == {}


def test_contradictory_variables_are_refused_with_nothing_changed(server: Server) -> None:
    before = server.state()
    for wrong in (
        {"nvidia_driver_branch": "470", "nvidia_driver_flavour": "open"},
        {"nvidia_driver_branch": "470", "nvidia_driver_version": "535.901.01"},
        {"nvidia_driver_branch": "580"},
        {"nvidia_driver_branch": "newest"},
    ):
        outcome = server.infrastructure(nvidia_driver_reboot=True, **wrong)
        assert not outcome.ok, wrong
        assert "BP1" in messages(outcome) and "Fix:" in messages(outcome), (wrong, explain(outcome))
        assert outcome.run.changed == 0, (wrong, explain(outcome))
    assert server.state() == before


def test_without_consent_it_installs_and_asks_for_the_reboot(server: Server) -> None:
    before = server.state()
    outcome = server.infrastructure(**WANTED)
    assert not outcome.ok
    assert "nvidia_driver_reboot" in messages(outcome) and "BP1" in messages(outcome), explain(outcome)
    after = server.state()
    assert after.boot_id == before.boot_id and after.loaded is None
    assert after.packages["nvidia-tesla-470-kernel-dkms"].startswith(OLD)


def test_with_consent_it_reboots_into_the_driver(server: Server) -> None:
    before = server.state()
    outcome = server.infrastructure(nvidia_driver_reboot=True, **WANTED)
    assert outcome.ok, explain(outcome)
    after = server.state()
    assert after.boot_id != before.boot_id
    assert (after.loaded, after.user_space, after.broken) == (OLD, OLD, [])
    assert after.persistenced == "active"


def test_every_driver_package_is_held(server: Server) -> None:
    state = server.state()
    assert set(state.driver_packages) <= set(state.holds)
    assert not any(
        "535" in version for name, version in state.packages.items() if "cfg1" in name or "alternative" in name
    )


def test_the_receipt_names_the_driver(server: Server) -> None:
    state = server.state()
    receipt = state.receipt["nvidia_driver"]
    assert receipt["version"] == OLD
    assert receipt["branch"] in (470, "470")
    assert receipt["flavour"] == "proprietary"
    assert receipt["source"] == "distribution"
    assert receipt["held"] is True and receipt["reboot_required"] is False
    assert receipt["packages"]["nvidia-tesla-470-kernel-dkms"] == state.packages["nvidia-tesla-470-kernel-dkms"]


def test_its_packages_are_kept_for_a_way_back(server: Server) -> None:
    state = server.state()
    kept = {path.rsplit("/", 1)[1].split("_")[0] for path in state.kept}
    assert {"nvidia-tesla-470-kernel-dkms", "nvidia-tesla-470-smi", "libnvidia-tesla-470-cuda1"} <= kept


def test_a_second_run_changes_nothing(server: Server) -> None:
    before = server.state()
    outcome = server.infrastructure(**WANTED)
    assert outcome.ok and outcome.run.changed == 0, explain(outcome)
    checked = server.infrastructure(check=True, **WANTED)
    assert checked.ok and checked.run.changed == 0, explain(checked)
    assert server.state() == before


def test_another_branch_is_not_installed_by_the_way(server: Server) -> None:
    """A driver change is deliberate: infrastructure.yml refuses it and names the playbook that does it."""
    before = server.state()
    outcome = server.infrastructure(nvidia_driver_branch="535", nvidia_driver_reboot=True)
    assert not outcome.ok
    assert "upgrade_driver.yml" in messages(outcome), explain(outcome)
    assert server.state() == before
