"""Filters of the role nginx: what a certificate says, and whether a key belongs to it."""

from __future__ import annotations

import hashlib
import ipaddress
import re
import ssl
import tempfile
from collections.abc import Iterable


def certificate_names(names: Iterable[str]) -> list[str]:
    """Names and addresses as a certificate's subjectAltName has them: sorted `DNS:bed1`, `IP:10.0.0.1`."""
    return sorted({_alternative_name(str(name)) for name in names})


def _alternative_name(name: str) -> str:
    try:
        return f"IP:{ipaddress.ip_address(name)}"
    except ValueError:
        return f"DNS:{name}"


def pem_fingerprint(pem: str) -> str:
    """sha256 fingerprint (AB:CD:...) of the first certificate of a PEM text."""
    first = re.search(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", pem, re.DOTALL)
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(first[0])).digest().hex(":").upper() if first else ""


def certificate_problem(certificate: str, key: str) -> str:
    """Why a PEM certificate and a PEM key cannot serve together, or an empty text."""
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as pem:
        pem.write(f"{certificate}\n{key}\n")
        pem.flush()
        try:
            # An empty password instead of a question at the terminal.
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(pem.name, password="")
        except (ssl.SSLError, ValueError) as problem:
            return f"a pair OpenSSL does not load ({problem})"
    return ""


class FilterModule:
    """names | certificate_names, pem | pem_fingerprint, certificate | certificate_problem(key)."""

    def filters(self) -> dict[str, object]:
        return {
            "certificate_names": certificate_names,
            "pem_fingerprint": pem_fingerprint,
            "certificate_problem": certificate_problem,
        }
