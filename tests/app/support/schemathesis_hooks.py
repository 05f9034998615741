"""Loaded by schemathesis: made-up bodies name a model that is served, most of the time, so that they get past that check."""

from __future__ import annotations

import os
from typing import Any

import schemathesis


@schemathesis.hook  # type: ignore[untyped-decorator]
def map_body(context: Any, body: Any) -> Any:
    if isinstance(body, dict) and isinstance(body.get("model"), str) and len(body["model"]) % 8 != 7:
        body["model"] = os.environ["BEDPLATE_MODEL"]
    return body
