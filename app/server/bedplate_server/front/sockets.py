"""The listening socket: taken over from systemd, or opened here."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import stat
from pathlib import Path

from ..config import Config, Listen
from ..errors import Refusal

_BACKLOG = 4096


def listening_socket(config: Config) -> socket.socket:
    """The socket of `config.listen`, listening.

    Raises Refusal BP652 when it could be reached from other machines and no keys are configured, BP656 when
    it cannot be had.
    """
    try:
        listener = _opened(config.listen)
        if config.keys_file is None and not _is_local(listener):
            listener.close()
            raise Refusal(
                "BP652",
                f"{_describe(config.listen)} is open to other machines and there are no API keys.",
                "set keys_file (--keys FILE), or listen on 127.0.0.1 or a Unix socket.",
            )
        listener.listen(_BACKLOG)
    except (OSError, ValueError, OverflowError) as error:
        # ValueError: a NUL in a path, a host that is no name; OverflowError: a file descriptor beyond C's integers.
        raise Refusal(
            "BP656", f"cannot listen on {_describe(config.listen)}: {error}.", "free it or change `listen`."
        ) from None
    listener.setblocking(False)
    return listener


def _opened(listen: Listen) -> socket.socket:
    if listen.fd is not None:
        return _inherited(listen.fd)
    if listen.uds is not None:
        return _unix(listen.uds)
    family, kind, protocol, _, address = socket.getaddrinfo(
        listen.host, listen.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except (OSError, ValueError):
        listener.close()
        raise
    return listener


def _inherited(fd: int) -> socket.socket:
    """A socket passed by systemd: see sd_listen_fds(3). The variables are not for our own children."""
    count, owner = os.environ.pop("LISTEN_FDS", "0"), os.environ.pop("LISTEN_PID", "")
    os.environ.pop("LISTEN_FDNAMES", None)
    if owner and int(owner) != os.getpid():
        raise OSError(f"systemd passed its sockets to process {owner}, this is {os.getpid()}")
    if owner and fd >= 3 + int(count):
        raise OSError(f"systemd passed {count} socket(s), starting at 3")
    listener = socket.socket(fileno=fd)
    listener.set_inheritable(False)
    return listener


def _unix(path: Path) -> socket.socket:
    """A Unix socket at `path`, for its owner and group; one left behind by a dead process is replaced."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.exists() and stat.S_ISSOCK(path.stat().st_mode) and not _answers(path):
            path.unlink()
        listener.bind(str(path))
        path.chmod(0o660)
    except (OSError, ValueError):
        listener.close()
        raise
    return listener


def _answers(path: Path) -> bool:
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as probe:
        return probe.connect_ex(str(path)) == 0


def _is_local(listener: socket.socket) -> bool:
    if listener.family == socket.AF_UNIX:
        return True
    return ipaddress.ip_address(listener.getsockname()[0]).is_loopback


def _describe(listen: Listen) -> str:
    if listen.fd is not None:
        return f"file descriptor {listen.fd}"
    return str(listen.uds) if listen.uds is not None else f"{listen.host}:{listen.port}"
