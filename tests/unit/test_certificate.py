"""What nginx' certificate says is read and compared the same way on both sides; keys are stored as digests only."""

from __future__ import annotations

import hashlib
import importlib.util
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

from tests.unit.conftest import ROOT, ModuleRunner


def plugin(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "plugins" / "filter" / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


CERTIFICATE, KEYS = plugin("bedplate_certificate"), plugin("bedplate_keys")


@pytest.fixture
def pem(tmp_path: Path) -> Path:
    path = tmp_path / "server.pem"
    names = "subjectAltName=DNS:bed1,IP:10.0.0.1,IP:2001:db8::1"
    command = f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 90 -subj /CN=bed1 -addext {names}"
    subprocess.run([*command.split(), "-keyout", path, "-out", path], check=True, capture_output=True)
    return path


def test_the_probe_reads_names_days_and_fingerprint(pem: Path, run_module: ModuleRunner) -> None:
    read = run_module("bedplate_app_probe", certificate=str(pem))["probe"]["certificate"]
    assert read["names"] == CERTIFICATE.certificate_names(["bed1", "2001:0db8::1", "10.0.0.1", "bed1"])
    assert read["days_left"] in (89, 90)
    assert read["fingerprint"] == CERTIFICATE.pem_fingerprint(pem.read_text())


def test_a_key_that_does_not_belong_to_the_certificate_is_found(pem: Path, tmp_path: Path) -> None:
    assert CERTIFICATE.certificate_problem(pem.read_text(), pem.read_text()) == ""
    other = subprocess.run(
        ["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:prime256v1"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    only = pem.read_text()[pem.read_text().index("-----BEGIN CERTIFICATE") :]
    assert "OpenSSL" in CERTIFICATE.certificate_problem(only, other)
    assert CERTIFICATE.certificate_problem("no certificate", other) != ""


def test_a_key_is_stored_as_its_digest() -> None:
    key = f"bp-01234567-{'ab' * 32}"
    (stored,) = KEYS.stored_keys([{"name": "default", "key": key + "\n"}])
    digest = hashlib.sha256(key.encode()).hexdigest()
    assert stored == {"id": "01234567", "sha256": digest, "name": "default", "expires": None}
    assert KEYS.key_problems([{"name": "default", "key": key}]) == []
    assert KEYS.key_problems([{"name": "ci", "id": "ci01", "sha256": stored["sha256"]}]) == []


def test_a_wrong_key_is_refused_without_being_shown() -> None:
    (problem,) = KEYS.key_problems([{"name": "mine", "key": "hunter2-hunter2"}])
    assert problem.startswith("BP602") and "hunter2" not in problem
    key = f"bp-01234567-{'ab' * 32}"
    assert any(
        "one id" in problem for problem in KEYS.key_problems([{"name": "a", "key": key}, {"name": "b", "key": key}])
    )
