"""GET /health/live (the event loop turns) and /health/ready (every model generates). Neither needs a key."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request
from fastapi.responses import Response

from ...errors import unavailable
from ..registry import json_answer, registry_of

router = APIRouter()


@router.get("/health/live")
async def live() -> Response:
    return json_answer({"status": "live"})


@router.get("/health/ready")
async def ready(request: Request) -> Response:
    """200 only if each model made a token in the last seconds (on demand, if need be), else 503."""
    registry = registry_of(request)
    if request.app.state.draining:
        raise unavailable("The server is shutting down.", "server_shutting_down")
    services = registry.services.values()
    age = registry.config.limits.ready_age_seconds
    problems = [problem for problem in await asyncio.gather(*(one.prove(age) for one in services)) if problem]
    if problems:
        # Names of models are for holders of a key; these lines are for everybody.
        counted = f"{len(problems)} of {len(services)} models not ready"
        raise unavailable(f"{counted}: {'; '.join(sorted(set(problems)))}.", "not_ready")
    return json_answer({"status": "ready"})
