"""Filter of the role nginx: a line of a password file."""

from __future__ import annotations

import base64
import hashlib


def htpasswd_line(user: str, password: str) -> str:
    """`user:{SSHA}...` as nginx reads it, the same every time for the same password.

    The password is random and long, so a fast hash gives nothing away, and a slow one would hold up a worker's streams.
    """
    salt = hashlib.sha256(f"{user}:{password}".encode()).digest()[:12]
    digest = hashlib.sha1(password.encode() + salt, usedforsecurity=False).digest()
    return f"{user}:{{SSHA}}{base64.b64encode(digest + salt).decode()}\n"


class FilterModule:
    """user | htpasswd_line(password)."""

    def filters(self) -> dict[str, object]:
        return {"htpasswd_line": htpasswd_line}
