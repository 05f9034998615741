"""Tell systemd how the service fares: the one datagram of sd_notify(3)."""

from __future__ import annotations

import os
import socket


def notify(*assignments: str) -> None:
    """Send `READY=1`, `STATUS=…` and the like; does nothing when not started by systemd with Type=notify."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        try:
            sender.sendto("\n".join(assignments).encode(), socket.MSG_DONTWAIT, address)
        except OSError:
            # A restart of systemd itself must not end the service, nor must a systemd that does not listen hold it up.
            return
