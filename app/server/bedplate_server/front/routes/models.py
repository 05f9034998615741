"""GET /v1/models and /v1/models/{id}."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from ..registry import json_answer, registry_of
from ..service import ModelService

router = APIRouter()


@router.get("/v1/models")
async def list_models(request: Request) -> Response:
    services = registry_of(request).services.values()
    names = [(name, service) for service in services for name in (service.name, *service.adapters)]
    return json_answer({"object": "list", "data": [_card(*pair) for pair in names]})


@router.get("/v1/models/{name:path}")
async def show_model(request: Request, name: str) -> Response:
    return json_answer(_card(name, registry_of(request).named(name)))


def _card(name: str, service: ModelService) -> dict[str, Any]:
    """OpenAI's four fields, and vLLM's max_model_len once the model is loaded, and parent for an adapter."""
    facts = service.engine.info
    return {
        "id": name,
        "object": "model",
        "created": service.checkpoint.created,
        "owned_by": "bedplate",
        "parent": service.name if name in service.adapters else None,
        "task": service.checkpoint.task,
        "max_model_len": facts.context_length if facts else None,
    }
