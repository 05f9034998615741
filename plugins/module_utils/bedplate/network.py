"""How programs on a server get out: proxy and trusted certificates, as the environment variables that they read.

Standard library only, Python 3.9 or newer.
"""

from __future__ import annotations

import base64
import hashlib
import re
import ssl
from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

from .refusal import refusal

# Where Debian and Ubuntu keep all trusted certificates in one file; programs that bring their own list are pointed at it.
TRUSTED = "/etc/ssl/certs/ca-certificates.crt"
# OpenSSL and Python, uv; requests and conda; curl and aria2's children; pip; Node.js.
_TRUST_VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT", "NODE_EXTRA_CA_CERTS")
_SELF = ("localhost", "127.0.0.1", "::1")
_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----\s+([A-Za-z0-9+/=\s]+?)-----END CERTIFICATE-----")


def network_environment(http: str, https: str, direct: Iterable[str], authorities: bool = False) -> dict[str, str]:
    """Environment variables for proxies (both spellings, programs read one or the other) and for own certificate authorities."""
    proxies = {"http_proxy": http, "https_proxy": https}
    found = {name: address for name, address in proxies.items() if address}
    if found:
        found["no_proxy"] = ",".join(dict.fromkeys((*_SELF, *direct)))
    trust = dict.fromkeys(_TRUST_VARIABLES, TRUSTED) if authorities else {}
    return {**found, **{name.upper(): value for name, value in found.items()}, **trust}


def controller_environment(environment: Mapping[str, str], bundle: str) -> dict[str, str]:
    """The same for what runs on the controller, whose own list of certificates may be elsewhere and lack those of the bundle.

    Only Node.js takes the bundle, beside its own list and the controller's; other programs go by what the controller trusts.
    """
    own = ssl.get_default_verify_paths().cafile or TRUSTED
    trust = {name: own for name in _TRUST_VARIABLES if name in environment}
    node = {"NODE_EXTRA_CA_CERTS": bundle, "NODE_USE_SYSTEM_CA": "1"} if trust else {}
    return {**environment, **trust, **node}


def network_problems(http: str, https: str, bundle_text: str | None) -> list[str]:
    """Refusals for proxies that cannot be used and a bundle without certificates. bundle_text: None when there is none."""
    problems = []
    for variable, address in (("bedplate_http_proxy", http), ("bedplate_https_proxy", https)):
        parts = urlsplit(address)
        if address and (parts.scheme not in ("http", "https") or not parts.hostname):
            wanted = "an address such as http://proxy.example:3128"
            problems.append(
                refusal("BP170", "proxy not usable", f"{variable} {address!r}", wanted, f"correct {variable}.")
            )
        elif parts.password:
            found = f"a password in {variable}"
            fix = "let a proxy on this network (cntlm, squid) log in for the servers, or allow the servers' addresses."
            problems.append(refusal("BP170", "proxy not usable", found, "none: process lists would show it", fix))
    if bundle_text is not None and not certificates_of(bundle_text):
        fix = "name a PEM file with -----BEGIN CERTIFICATE----- in bedplate_ca_bundle."
        problems.append(refusal("BP171", "no certificates", "none in bedplate_ca_bundle", "one or more, as PEM", fix))
    return problems


def certificates_of(text: str) -> dict[str, str]:
    """The certificates of a PEM file, one by one, by the file name each gets: bedplate-<sha256[:16]>.crt."""
    found = {}
    for block in _CERTIFICATE.finditer(text):
        der = base64.b64decode("".join(block[1].split()))
        body = base64.b64encode(der).decode()
        pem = "\n".join(body[start : start + 64] for start in range(0, len(body), 64))
        name = f"bedplate-{hashlib.sha256(der).hexdigest()[:16]}.crt"
        found[name] = f"-----BEGIN CERTIFICATE-----\n{pem}\n-----END CERTIFICATE-----\n"
    return found
