"""Ask the inference service over its Unix socket whether it generates tokens. Standard library only, Python 3.9 or newer."""

from __future__ import annotations

import http.client
import socket
import time

READY_TIMEOUT_S = 15


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def readiness(path: str, timeout: float = READY_TIMEOUT_S) -> tuple[int, str]:
    """Status and body of /health/ready; status 0 and the reason when there is no answer."""
    connection = UnixConnection(path, timeout)
    try:
        connection.request("GET", "/health/ready")
        answer = connection.getresponse()
        return answer.status, answer.read(2000).decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        return 0, f"{type(error).__name__}: {error}"
    finally:
        connection.close()


def is_ready(path: str) -> bool:
    """Whether the service says that it generates tokens."""
    return readiness(path)[0] == 200


def wait_until_ready(path: str, seconds: float) -> tuple[int, str]:
    """The last answer of /health/ready: the first 200, or whatever was said when the time was up."""
    end = time.monotonic() + seconds
    while True:
        found = readiness(path)
        if found[0] == 200 or time.monotonic() >= end:
            return found
        time.sleep(0.5)
