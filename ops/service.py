"""Talk to a provisioned service as its users do: HTTPS through Nginx, a key, OpenAI's protocol."""

from __future__ import annotations

import hashlib
import json
import ssl
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ops.inventory import Host
from ops.paths import TUTOR, short

RECEIPT = "/etc/ansible/facts.d/bedplate.fact"
# Where a server renews its certificate by itself, the receipt does not know the one it shows now.
FINGERPRINT = "sudo -n openssl x509 -in /etc/bedplate/tls/server.pem -noout -fingerprint -sha256"


@dataclass(frozen=True)
class Service:
    """One server's service: where it is, its certificate and the key to use it."""

    base_url: str
    certificate: Path
    key: str = field(repr=False)

    def request(self, path: str, body: dict[str, Any] | None = None, timeout: float = 60) -> Any:
        """The JSON answer of one call. Raises ServiceError with the server's own message."""
        request = urllib.request.Request(
            self.base_url + path,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=timeout, context=trust(self.certificate)) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise ServiceError(
                f"{self.base_url}{path} answered {error.code}: {error.read().decode(errors='replace')[:500]}"
            ) from error
        except OSError as error:
            raise ServiceError(f"{self.base_url}{path} did not answer: {error}") from error

    def chat(self, question: str) -> tuple[str, str]:
        """(model, answer) to one question, greedy."""
        model = self.request("/v1/models")["data"][0]["id"]
        body = {
            "model": model,
            "messages": [{"role": "user", "content": question}],
            "temperature": 0,
            "max_tokens": 128,
        }
        return model, self.request("/v1/chat/completions", body)["choices"][0]["message"]["content"]

    def curl(self, question: str, model: str) -> str:
        """The same call as a line to paste into a shell; the key is read from its file."""
        body = json.dumps({"model": model, "messages": [{"role": "user", "content": question}]})
        return (
            f'curl --cacert {short(self.certificate)} -H "Authorization: Bearer $(cat {short(self.certificate.parent / "api_key")})" '
            f"-H 'Content-Type: application/json' -d '{body}' {self.base_url}/v1/chat/completions"
        )


class ServiceError(Exception):
    """The service did not answer as it should; the message says what it did."""


def service_of(host: Host, secrets: Path) -> Service:
    """The service on a host, its certificate pinned: the server must show the one it has, as told over trusted SSH."""
    key_file = secrets / "api_key"
    if not key_file.exists():
        raise ServiceError(
            f"BP006 no API key: found nothing at {key_file}. Fix: run ./bedplate up for this inventory first."
        )
    with host.connection() as connection:
        section = json.loads(connection.run(f"cat {RECEIPT}", hide=True, timeout=20).stdout)["nginx"]
        if section["tls_mode"] == "acme":
            section["fingerprint"] = (
                connection.run(FINGERPRINT, hide=True, timeout=20).stdout.strip().rpartition("=")[2]
            )
    try:
        pem = ssl.get_server_certificate((host.address, host.https_port), timeout=20)
    except OSError as error:
        raise ServiceError(f"{host.base_url} did not answer: {error}") from error
    shown = hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()
    wanted = section["fingerprint"].replace(":", "").lower()
    if shown != wanted:
        raise ServiceError(
            f"BP009 another certificate than this server's: found {shown}, wanted {wanted}. Fix: see who answers at {host.base_url}."
        )
    certificate = secrets / f"{host.name}.pem"
    certificate.write_text(pem)
    return Service(host.base_url, certificate, key_file.read_text().strip())


def trust(certificate: Path) -> ssl.SSLContext:
    """A TLS context that trusts this certificate and nothing else, whoever signed it."""
    context = ssl.create_default_context(cafile=str(certificate))
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def first_question() -> str:
    """What a first chat asks: the first question the tutor was trained on."""
    return str(tutor_pairs()[0]["question"])


def tutor_pairs() -> list[dict[str, str]]:
    """The questions and answers of the bundled tutor model: [{id, lang, question, answer}]."""
    data = yaml.safe_load((TUTOR / "qa.yml").read_text(encoding="utf-8"))
    return list(data["pairs"] if isinstance(data, dict) else data)
