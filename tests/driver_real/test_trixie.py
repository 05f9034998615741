"""Debian 13's own driver, 550, with real modules built by DKMS. Alone: ./bedplate test --only driver_real"""

from __future__ import annotations

from tests.driver.servers import Server, explain

VERSION = "550.163.01"


def test_550_is_installed_and_held(bare_trixie: Server) -> None:
    trixie = bare_trixie
    outcome = trixie.infrastructure(nvidia_driver_branch="550", nvidia_driver_reboot=True)
    assert outcome.ok, explain(outcome)
    state = trixie.state()
    assert (state.loaded, state.user_space, state.broken) == (VERSION, VERSION, [])
    assert set(state.driver_packages) <= set(state.holds)
    built = trixie.on("/usr/sbin/modinfo -F version /lib/modules/*/updates/dkms/nvidia-current*.ko* | sort -u")
    assert built.split() == [VERSION]
    again = trixie.infrastructure(nvidia_driver_branch="550")
    assert again.ok and again.run.changed == 0, explain(again)
