"""The service against its own description: whatever requests schemathesis makes up of it, none is answered with a 5xx."""

from __future__ import annotations

from pathlib import Path

from tests.app.conftest import StartServer
from tests.app.support.openapi import requests_without_server_error


def test_no_request_made_up_from_the_description_is_a_server_error(
    start_server: StartServer, models: dict[str, Path], free_port: int
) -> None:
    """A short run; tests/conformance has the long one."""
    served = [{"name": "llama", "path": str(models["tools"]), "context_length": 128, "max_batch": 8}]
    listen = {"host": "127.0.0.1", "port": free_port}
    start_server({"listen": listen, "models": served}).wait_ready()
    made = requests_without_server_error(f"http://127.0.0.1:{free_port}", "llama", "coverage,fuzzing", 20)
    assert made > 1000
