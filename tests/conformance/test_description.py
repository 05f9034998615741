"""The service against its own description, at length."""

from __future__ import annotations

from tests.app.support.openapi import requests_without_server_error


def test_thousands_of_made_up_requests_meet_no_server_error(address: str) -> None:
    made = requests_without_server_error(address.removesuffix("/v1"), "tutor", "examples,coverage,fuzzing", 100)
    assert made > 2000
