"""POST /v1/embeddings."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from ..connection import request_body, while_connected
from ..registry import json_answer, registry_of, request_schema
from ..schemas.embeddings import EmbeddingRequest
from ..service import Vectors

router = APIRouter()


@router.post("/v1/embeddings", openapi_extra=request_schema(EmbeddingRequest))
async def create_embeddings(request: Request) -> Response:
    body = await request_body(request, EmbeddingRequest)
    service = registry_of(request).for_embedding(body.model)
    request.scope["log"]["model"] = service.name
    vectors, tokens = await while_connected(request, service.embed(body))
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    request.scope["log"]["tokens"] = usage
    answer = {"object": "list", "model": service.name, "usage": usage}
    return await asyncio.to_thread(_rendered, answer, vectors, body.encoding_format)


def _rendered(answer: dict[str, Any], vectors: Vectors, encoding: str) -> Response:
    """Base64 is of the little-endian float32 bytes; the official clients ask for it."""
    encoded = [base64.b64encode(vector.tobytes()).decode() if encoding == "base64" else vector for vector in vectors]
    data = [{"object": "embedding", "index": index, "embedding": vector} for index, vector in enumerate(encoded)]
    return json_answer({**answer, "data": data})
