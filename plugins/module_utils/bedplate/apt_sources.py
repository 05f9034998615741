"""The package sources of an apt host: which of its mirrors lack a component, and the key of NVIDIA's repository. Pure functions."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Source:
    """One `deb` entry: a mirror's address, a suite, its components, and the key it is signed by (None: apt's own)."""

    uri: str
    suite: str
    components: tuple[str, ...]
    signed_by: str | None


def parse_sources(text: str, deb822: bool) -> list[Source]:
    """Entries of a .sources (deb822) or .list file; switched-off and source-code entries are left out."""
    return [*(_deb822(text) if deb822 else _one_line(text))]


def _one_line(text: str) -> Iterable[Source]:
    for line in text.splitlines():
        found = re.match(
            r"deb\s+(?:\[(?P<options>[^]]*)\]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)(?P<parts>[^#]*)", line.strip()
        )
        if found:
            signed = re.search(r"signed-by=(\S+)", found["options"] or "", re.IGNORECASE)
            yield Source(found["uri"], found["suite"], tuple(found["parts"].split()), signed[1] if signed else None)


def _deb822(text: str) -> Iterable[Source]:
    for paragraph in re.split(r"\n\s*\n", re.sub(r"^#.*\n?", "", text, flags=re.MULTILINE)):
        fields: dict[str, str] = {}
        name = ""
        for line in paragraph.splitlines():
            if line[:1] in (" ", "\t"):
                fields[name] = f"{fields.get(name, '')}\n{line}"
            elif ":" in line:
                name, _, value = line.partition(":")
                name = name.strip().lower()
                fields[name] = value.strip()
        if "deb" not in fields.get("types", "").split() or fields.get("enabled", "yes").lower() in ("no", "false"):
            continue
        for uri in fields.get("uris", "").split():
            for suite in fields.get("suites", "").split():
                yield Source(uri, suite, tuple(fields.get("components", "").split()), fields.get("signed-by"))


def component_file(sources: Iterable[Source], mirrors: Iterable[str], components: Sequence[str]) -> str | None:
    """A .sources file that adds components to the host's own mirrors with their own keys; None when none is missing.

    mirrors: the addresses apt knows as the distribution's (by their signed Origin); other repositories are left alone.
    """
    own = {uri.rstrip("/") for uri in mirrors}
    there: dict[tuple[str, str], tuple[set[str], str | None]] = {}
    for source in sources:
        if source.uri.rstrip("/") in own and not source.suite.endswith(
            ("-backports", "-proposed-updates", "-proposed")
        ):
            has, _ = there.setdefault((source.uri, source.suite), (set(), source.signed_by))
            has.update(source.components)
    paragraphs = []
    for (uri, suite), (has, signed_by) in there.items():
        missing = [component for component in components if component not in has]
        if "main" in has and missing:
            paragraph = f"Types: deb\nURIs: {uri}\nSuites: {suite}\nComponents: {' '.join(missing)}\n"
            paragraphs.append(paragraph + (f"Signed-By: {signed_by}\n" if signed_by else ""))
    head = "# Written by Bedplate (role nvidia_driver): components the driver's packages are in, from this server's own mirrors.\n"
    return head + "\n".join(paragraphs) if paragraphs else None


def parse_targets(text: str, origins: Sequence[str]) -> list[str]:
    """`apt-get indextargets` -> addresses of the repositories that say they are one of the origins (Debian, Ubuntu)."""
    found = []
    for paragraph in text.split("\n\n"):
        fields: Mapping[str, str] = dict(line.split(": ", 1) for line in paragraph.splitlines() if ": " in line)
        if fields.get("Origin") in origins and "Repo-URI" in fields:
            # apt names a host it was given without credentials and with a slash at the end.
            found += [fields["Repo-URI"], fields.get("Site", fields["Repo-URI"])]
    return list(dict.fromkeys(found))


def repository_file(url: str, keyring: str) -> str:
    """A .sources file of NVIDIA's repository (flat: no suite, no components), signed by one key only."""
    head = "# Written by Bedplate (role nvidia_driver): NVIDIA's driver repository (nvidia_driver_repository).\n"
    return f"{head}Types: deb\nURIs: {url.rstrip('/')}/\nSuites: /\nSigned-By: {keyring}\n"


def dearmored(key: bytes) -> bytes:
    """An OpenPGP key without its ASCII armour. Raises ValueError."""
    if b"-----BEGIN PGP" not in key:
        return key
    body = key.split(b"-----BEGIN PGP PUBLIC KEY BLOCK-----", 1)[1].split(b"-----END", 1)[0].replace(b"\r", b"")
    lines = body.partition(b"\n\n")[2].split()
    return base64.b64decode(b"".join(line for line in lines if not line.startswith(b"=")), validate=True)


def key_fingerprints(key: bytes) -> list[str]:
    """Fingerprints of the primary keys (version 4) in a binary OpenPGP keyring, as RFC 4880 section 12.2 has it.

    Raises ValueError for what is no keyring.
    """
    found, place = [], 0
    while place < len(key):
        tag, start, length = _packet(key, place)
        if tag == 6:
            body = key[start : start + length]
            if body[:1] != b"\x04" or len(body) != length:
                raise ValueError("a public key that is not of version 4, or cut off")
            found.append(hashlib.sha1(b"\x99" + length.to_bytes(2, "big") + body).hexdigest().upper())
        place = start + length
    return found


def _packet(data: bytes, place: int) -> tuple[int, int, int]:
    """Tag, start of the body, length of the body."""
    head = data[place]
    if not head & 0x80 or place + 1 >= len(data):
        raise ValueError("not an OpenPGP key")
    if head & 0x40:
        first = data[place + 1]
        if first < 192:
            return head & 0x3F, place + 2, first
        if first < 224:
            return head & 0x3F, place + 3, ((first - 192) << 8) + data[place + 2] + 192
        if first == 255:
            return head & 0x3F, place + 6, int.from_bytes(data[place + 2 : place + 6], "big")
        raise ValueError("an OpenPGP packet without a length")
    size = 1 << (head & 3)
    if size == 8:
        raise ValueError("an OpenPGP packet without a length")
    return (head >> 2) & 0xF, place + 1 + size, int.from_bytes(data[place + 1 : place + 1 + size], "big")
