"""The first mirror that answers is used, one with wrong bytes is passed over, and proxies and own certificates are honoured."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.bedplate.network import (
    certificates_of,
    controller_environment,
    network_environment,
    network_problems,
)
from ansible.module_utils.bedplate.sources import (
    first_addresses,
    installer_addresses,
    source_choices,
    source_problems,
)

from ops.sources import SOURCES, upstream
from tests.fixtures.mirror import Authority, Mirror, Proxy, authority

MODULE = Callable[..., dict[str, Any]]
PROFILES = yaml.safe_load(SOURCES.read_text())["__sources_profiles"]


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return authority(tmp_path_factory.mktemp("authority"), "127.0.0.1")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "thing").write_bytes(b"the right bytes")
    return tmp_path / "files"


@pytest.fixture
def mirror(folder: Path, company: Authority) -> Iterator[Mirror]:
    with Mirror(folder, ("127.0.0.1", 0), company) as running:
        yield running


@pytest.fixture
def dead() -> str:
    """An address where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


def test_the_first_address_that_answers_is_taken(
    run_module: MODULE, mirror: Mirror, company: Authority, dead: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(company.bundle))
    asked = {
        "second": {"addresses": [dead, mirror.url], "proof": "thing"},
        "lacking": {"addresses": [f"{mirror.url}/elsewhere", mirror.url], "proof": "thing"},
        "any": {"addresses": [dead, f"{mirror.url}/anything"], "proof": ""},
        "none": {"addresses": [dead, f"{dead}/too"], "proof": ""},
    }
    result = run_module("bedplate_reach", sources=asked)
    assert not result["changed"]
    assert result["reached"] == {
        "second": mirror.url,
        "lacking": mirror.url,
        "any": f"{mirror.url}/anything",
        "none": dead,
    }
    assert "HTTP 404" in result["refused"]["lacking"][0] and len(result["refused"]["none"]) == 2


def test_a_mirror_whose_certificate_nobody_trusts_is_passed_over(run_module: MODULE, mirror: Mirror, dead: str) -> None:
    asked = {"one": {"addresses": [mirror.url, dead], "proof": "thing"}}
    result = run_module("bedplate_reach", sources=asked)
    assert result["reached"] == {"one": mirror.url}, "none answers: the first"
    assert "certificate" in result["refused"]["one"][0].lower()


def test_wrong_bytes_are_refused_and_the_next_mirror_gives_the_right_ones(
    run_module: MODULE,
    folder: Path,
    mirror: Mirror,
    company: Authority,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(company.bundle))
    right = hashlib.sha256(b"the right bytes").hexdigest()
    with Mirror(folder, ("127.0.0.1", 0), company, wrong=True) as liar:
        urls = [f"{liar.url}/thing", f"{mirror.url}/thing"]
        result = run_module("bedplate_fetch", urls=urls, sha256=right, dest=str(tmp_path / "got"))
        assert result["changed"] and (tmp_path / "got").read_bytes() == b"the right bytes"
        assert "sha256" in result["refused"][0] and liar.served == ["thing"]
        alone = run_module("bedplate_fetch", urls=urls[:1], sha256=right, dest=str(tmp_path / "never"))
    assert alone["failed"] and not (tmp_path / "never").exists()


def test_the_proxy_is_the_way_for_http_and_for_tls(
    run_module: MODULE, folder: Path, mirror: Mirror, company: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Proxy(("127.0.0.1", 0)) as proxy, Mirror(folder, ("127.0.0.1", 0)) as plain:
        for name, value in network_environment(proxy.url, proxy.url, []).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("SSL_CERT_FILE", str(company.bundle))
        # This machine is never reached through a proxy, but here it stands for the world.
        monkeypatch.setenv("no_proxy", "")
        monkeypatch.setenv("NO_PROXY", "")
        asked = {one.url: {"addresses": [one.url], "proof": "thing"} for one in (mirror, plain)}
        result = run_module("bedplate_reach", sources=asked)
        assert result["refused"] == {}
        ports = {one.server_address[1] for one in (mirror, plain)}
        assert {int(host.rpartition(":")[2]) for host in proxy.asked} == ports


def test_the_environment_has_what_each_program_reads() -> None:
    assert network_environment("", "", []) == {}
    proxied = network_environment("http://p:3128", "http://p:3129", [".corp", "localhost"])
    assert (proxied["http_proxy"], proxied["HTTPS_PROXY"]) == ("http://p:3128", "http://p:3129")
    assert proxied["no_proxy"] == proxied["NO_PROXY"] == "localhost,127.0.0.1,::1,.corp"
    trusting = network_environment("", "", [], True)
    assert set(trusting) == {"SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT", "NODE_EXTRA_CA_CERTS"}
    here = controller_environment(trusting, "/home/me/ca.pem")
    assert here["NODE_EXTRA_CA_CERTS"] == "/home/me/ca.pem"
    # Node.js goes on trusting what the controller trusts, an authority between it and the internet for one.
    assert set(here) - set(trusting) == {"NODE_USE_SYSTEM_CA"} and here["NODE_USE_SYSTEM_CA"] == "1"
    assert controller_environment(proxied, "") == proxied


def test_what_cannot_be_a_way_out_is_refused(company: Authority) -> None:
    assert network_problems("", "", None) == []
    assert network_problems("http://p:3128", "http://p:3128", company.bundle.read_text()) == []
    password = network_problems("", "http://me:hunter2@p:3128", None)
    assert "BP170" in password[0] and "hunter2" not in password[0]
    assert "BP170" in network_problems("p:3128", "", None)[0]
    assert "BP171" in network_problems("", "", "no certificate at all")[0]


def test_a_bundle_is_taken_apart(company: Authority) -> None:
    text = company.bundle.read_text()
    assert list(certificates_of(f"# ours\n{text}\nrubbish\n{company.certificate.read_text()}").values()) == [
        text,
        company.certificate.read_text(),
    ]


def test_profiles_name_the_same_things() -> None:
    assert set(PROFILES["cn"]) == set(PROFILES["upstream"])
    for name, addresses in PROFILES["cn"].items():
        assert name == "python_packages" or addresses[-1:] == PROFILES["upstream"][name], "the makers' own comes last"
    assert first_addresses(PROFILES["upstream"])["hugging_face"] == upstream("hugging_face")


def test_an_address_in_use_stays_as_long_as_it_answers() -> None:
    sources = {"one": ["a/", "b"], "single": ["c"], "summed": ["d", "e"]}
    proofs = {"one": "proof", "single": ""}
    assert source_choices(sources, proofs, {}) == {"one": {"addresses": ["a", "b"], "proof": "proof"}}
    assert source_choices(sources, proofs, {"one": "b"})["one"]["addresses"] == ["b", "a"]
    assert source_choices(sources, proofs, {"one": "gone"})["one"]["addresses"] == ["a", "b"]
    assert installer_addresses({"folders": ["https://m/x/", "https://n"], "file": "f.sh"}) == [
        "https://m/x/f.sh",
        "https://n/f.sh",
    ]


def test_a_profile_that_cannot_be_is_refused() -> None:
    assert source_problems("upstream", PROFILES, ["https://c"]) == []
    assert "did you mean upstream?" in source_problems("upstraem", PROFILES, ["https://c"])[0]
    own = {**PROFILES, "site": {"condaforge": ["https://m"]}}
    said = source_problems("site", own, [""])
    assert all(problem.startswith("BP172") for problem in said) and len(said) == 2
