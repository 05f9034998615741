"""What programs that others wrote to judge servers say about this one: Lynis about nginx and the units, sslyze about TLS."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from rich.console import Console

from ops.service_env import locked_python
from tests.nginx.conftest import Server

LOCK = Path(__file__).parent / "requirements" / "judges.txt"
# Lynis wants the server to choose the cipher (HTTP-6710). Mozilla's intermediate profile, all of whose ciphers are strong, leaves
# that to the client, who knows whether its hardware has AES.
AGREED_TO_DIFFER = {"HTTP-6710"}


def test_lynis_has_nothing_against_nginx_and_the_units(server: Server) -> None:
    server.on("DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends lynis", timeout=600)
    server.on("lynis audit system --quick --no-colors --tests-from-group webservers >/dev/null", timeout=600)
    report = server.on("cat /var/log/lynis-report.dat")
    found = set(re.findall(r"^(?:warning|suggestion)\[\]=(HTTP-\d+)", report, re.MULTILINE))
    assert "HTTP-6712" in report and found <= AGREED_TO_DIFFER
    units = server.on("lynis audit system --quick --no-colors --tests BOOT-5264", timeout=600)
    for unit in ("nginx.service", "bedplate-inference.service"):
        assert re.search(rf"{re.escape(unit)}:\S*\s+\[ PROTECTED \]", units), units


def test_sslyze_finds_mozillas_intermediate_profile(server: Server) -> None:
    python = locked_python("judges", [LOCK], "sslyze; once, a few seconds", Console())
    where = f"{server.host.address}:{server.host.https_port}"
    command = [str(python), "-m", "sslyze", "--mozilla_config=intermediate", where]
    said = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False).stdout
    verdict = said.partition("COMPLIANCE AGAINST")[2]
    complaints = re.findall(r"\* (\w+):", verdict)
    # The sandbox's certificate is self-signed: nobody vouches for it.
    assert where in verdict and set(complaints) <= {"certificate_path_validation"}, verdict
    assert "VULNERABLE" not in re.sub(r"(?i)not vulnerable", "", said)
