"""The password file of the downloads: what nginx checks, and the same every time."""

from __future__ import annotations

import base64
import hashlib

from plugins.filter.bedplate_htpasswd import htpasswd_line


def test_the_line_is_the_salted_hash_that_nginx_checks() -> None:
    user, _, stored = htpasswd_line("bedplate", "secret").strip().partition(":")
    raw = base64.b64decode(stored.removeprefix("{SSHA}"))
    digest, salt = raw[:20], raw[20:]
    assert user == "bedplate" and stored.startswith("{SSHA}")
    assert digest == hashlib.sha1(b"secret" + salt).digest()


def test_the_same_password_gives_the_same_line_and_another_another() -> None:
    assert htpasswd_line("bedplate", "secret") == htpasswd_line("bedplate", "secret")
    assert htpasswd_line("bedplate", "secret")[-40:] != htpasswd_line("bedplate", "Secret")[-40:]
