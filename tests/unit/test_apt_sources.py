"""A host's apt sources: components are added from its own mirrors alone, and a repository's key is known by its fingerprint."""

from __future__ import annotations

import base64
import hashlib

import pytest
from ansible.module_utils.bedplate.apt_sources import (
    component_file,
    dearmored,
    key_fingerprints,
    parse_sources,
    parse_targets,
    repository_file,
)

DEB822 = """\
# the site's mirror
Types: deb deb-src
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main
 contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main
Enabled: yes

Types: deb
URIs: http://other.example
Suites: bookworm
Components: main
Enabled: no
"""
MIRRORS = ["http://mirror.example/debian/", "http://mirror.example/debian-security/"]
WANTED = ["contrib", "non-free", "non-free-firmware"]


def test_missing_components_come_from_the_hosts_own_mirrors_with_their_own_keys() -> None:
    text = component_file(parse_sources(DEB822, deb822=True), MIRRORS, WANTED)
    assert text is not None
    first, second, third = text.split("\n\n")
    assert (
        "URIs: http://mirror.example/debian\nSuites: bookworm\nComponents: non-free non-free-firmware\nSigned-By: /usr"
        in first
    )
    assert "Suites: bookworm-updates" in second
    assert (
        "Suites: bookworm-security\nComponents: contrib non-free non-free-firmware" in third
        and "Signed-By" not in third
    )
    assert "other.example" not in text


def test_one_line_sources_are_read_with_their_options() -> None:
    text = "deb [arch=amd64 signed-by=/usr/share/keyrings/site.gpg] http://mirror.example/debian bookworm main # ours\n#deb http://x y z\n"
    (source,) = parse_sources(text, deb822=False)
    assert (source.uri, source.suite, source.components) == ("http://mirror.example/debian", "bookworm", ("main",))
    assert source.signed_by == "/usr/share/keyrings/site.gpg"


def test_nothing_is_added_where_nothing_is_missing_or_the_repository_is_not_the_distributions() -> None:
    full = "deb http://mirror.example/debian bookworm main contrib non-free non-free-firmware\n"
    assert component_file(parse_sources(full, deb822=False), MIRRORS, WANTED) is None
    stranger = "deb http://packages.example bookworm main\n"
    assert component_file(parse_sources(stranger, deb822=False), MIRRORS, WANTED) is None


def test_the_distributions_repositories_are_known_by_their_signed_origin() -> None:
    told = (
        "MetaKey: main\nOrigin: Debian\nRepo-URI: http://mirror.example/debian/\nSite: http://mirror.example/debian\n\n"
        "MetaKey: main\nOrigin: Someone\nRepo-URI: http://packages.example/\n"
    )
    assert parse_targets(told, ["Debian"]) == ["http://mirror.example/debian/", "http://mirror.example/debian"]


def test_nvidias_repository_is_flat_and_signed_by_its_own_key() -> None:
    text = repository_file("https://mirror.example/debian12/x86_64/", "/usr/share/keyrings/k.gpg")
    assert "URIs: https://mirror.example/debian12/x86_64/\nSuites: /\nSigned-By: /usr/share/keyrings/k.gpg\n" in text


def packet(tag: int, body: bytes) -> bytes:
    """An OpenPGP packet of the old format with a two-octet length."""
    return bytes([0x80 | tag << 2 | 1]) + len(body).to_bytes(2, "big") + body


BODY = b"\x04" + bytes(range(4)) + b"\x01" + bytes(300)
FINGERPRINT = hashlib.sha1(b"\x99" + len(BODY).to_bytes(2, "big") + BODY).hexdigest().upper()


def test_a_keys_fingerprint_is_computed_with_and_without_armour() -> None:
    key = packet(6, BODY) + packet(13, b"NVIDIA") + packet(14, BODY)
    armour = (
        b"-----BEGIN PGP PUBLIC KEY BLOCK-----\nVersion: x\n\n"
        + base64.encodebytes(key)
        + b"=abcd\n-----END PGP PUBLIC KEY BLOCK-----\n"
    )
    assert dearmored(armour) == dearmored(key) == key
    # The subkey (tag 14) is not a key of its own.
    assert key_fingerprints(key) == [FINGERPRINT]
    newer = bytes([0xC0 | 6, 192 + ((len(BODY) - 192) >> 8), (len(BODY) - 192) & 0xFF]) + BODY
    assert key_fingerprints(newer) == [FINGERPRINT]


@pytest.mark.parametrize(
    "text", [b"<html>not found</html>", b"\x99\x01", packet(6, b"\x03" + bytes(9)), packet(6, BODY)[:-5]]
)
def test_what_is_no_key_is_refused(text: bytes) -> None:
    with pytest.raises((ValueError, IndexError)):
        key_fingerprints(text)
