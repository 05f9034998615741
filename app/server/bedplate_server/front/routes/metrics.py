"""GET /metrics, in Prometheus' text format. Needs a key like everything else."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request
from fastapi.responses import Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from ..registry import registry_of

router = APIRouter()


@router.get("/metrics")
async def metrics(request: Request) -> Response:
    # In a thread: a GPU's driver may take its time over NVML.
    text = await asyncio.to_thread(generate_latest, registry_of(request).metrics.registry)
    return Response(text, media_type=CONTENT_TYPE_LATEST)
