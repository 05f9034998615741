"""Talk to a provisioned service as its users do: HTTPS through Nginx, a key, OpenAI's protocol."""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ops.inventory import Host
from ops.paths import TUTOR

CERTIFICATE = "/etc/bedplate/tls/cert.pem"


@dataclass(frozen=True)
class Service:
    """One server's service: where it is, its certificate and the key to use it."""

    base_url: str
    certificate: Path
    key: str

    def request(self, path: str, body: dict[str, Any] | None = None, timeout: float = 60) -> Any:
        """The JSON answer of one call. Raises ServiceError with the server's own message."""
        request = urllib.request.Request(
            self.base_url + path,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"},
        )
        context = ssl.create_default_context(cafile=str(self.certificate))
        try:
            with urllib.request.urlopen(request, timeout=timeout, context=context) as answer:
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
            f'curl --cacert {self.certificate} -H "Authorization: Bearer $(cat {self.certificate.parent / "api_key"})" '
            f"-H 'Content-Type: application/json' -d '{body}' {self.base_url}/v1/chat/completions"
        )


class ServiceError(Exception):
    """The service did not answer as it should; the message says what it did."""


def service_of(host: Host, secrets: Path) -> Service:
    """The service on a host. Fetches its certificate over SSH, which the inventory already trusts, into the secrets folder."""
    key_file = secrets / "api_key"
    if not key_file.exists():
        raise ServiceError(
            f"BP006 no API key: found nothing at {key_file}. Fix: run ./bedplate up for this inventory first."
        )
    with host.connection() as connection:
        text = connection.run(f"cat {CERTIFICATE}", hide=True, timeout=20).stdout
    certificate = secrets / f"{host.name}.pem"
    certificate.write_text(text)
    return Service(host.base_url, certificate, key_file.read_text().strip())


def first_question() -> str:
    """What a first chat asks: the first question the tutor was trained on."""
    return str(tutor_pairs()[0]["question"])


def tutor_pairs() -> list[dict[str, str]]:
    """The questions and answers of the bundled tutor model: [{id, lang, question, answer}]."""
    data = yaml.safe_load((TUTOR / "qa.yml").read_text(encoding="utf-8"))
    return list(data["pairs"] if isinstance(data, dict) else data)
