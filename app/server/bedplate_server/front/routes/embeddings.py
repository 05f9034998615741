"""POST /v1/embeddings."""

from __future__ import annotations

import asyncio
import base64
from functools import partial
from typing import Any

import numpy as np
from fastapi import APIRouter, Request
from fastapi.responses import Response

from ...errors import bad_request
from ..connection import request_body, while_connected
from ..inputs import texts
from ..registry import json_answer, registry_of, request_schema
from ..schemas.embeddings import EmbeddingRequest
from ..service import ModelService, Vectors

router = APIRouter()
_FEW = 16


@router.post("/v1/embeddings", openapi_extra=request_schema(EmbeddingRequest))
async def create_embeddings(request: Request) -> Response:
    body = await request_body(request, EmbeddingRequest)
    service = registry_of(request).for_embedding(body.model)
    request.scope["log"]["model"] = service.name
    _check_dimensions(service, body.dimensions)
    vectors, tokens = await while_connected(request, service.encode(partial(texts, request=body)))
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    request.scope["log"]["tokens"] = usage
    answer = {"object": "list", "model": service.name, "usage": usage}
    render = partial(_rendered, answer, vectors, body.encoding_format, body.dimensions)
    # A thread is worth its detour where rendering takes longer than other streams should wait.
    return render() if len(vectors) <= _FEW else await asyncio.to_thread(render)


def _check_dimensions(service: ModelService, wanted: int | None) -> None:
    """Only vectors of models trained for it (Matryoshka) still mean something when they are cut."""
    whole = service.checkpoint.config.get("hidden_size")
    allowed = service.checkpoint.sentence.dimensions
    if wanted is None or wanted == whole:
        return
    if allowed is None and (whole is None or wanted < whole):
        return
    if allowed is None or wanted not in allowed:
        lengths = f"1 to {whole}" if allowed is None else ", ".join(map(str, sorted(allowed | {whole or 0})))
        raise bad_request(f"Invalid value for 'dimensions': the model `{service.name}` has {lengths}.", "dimensions")


def _rendered(answer: dict[str, Any], vectors: Vectors, encoding: str, dimensions: int | None) -> Response:
    """Base64 is of the little-endian float32 bytes; the official clients ask for it."""
    if dimensions is not None and dimensions < vectors.shape[1]:
        vectors = vectors[:, :dimensions]
        vectors = np.ascontiguousarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    encoded = [base64.b64encode(vector.tobytes()).decode() if encoding == "base64" else vector for vector in vectors]
    data = [{"object": "embedding", "index": index, "embedding": vector} for index, vector in enumerate(encoded)]
    return json_answer({**answer, "data": data})
