"""POST /v1/rerank: documents by how well they match a query."""

from __future__ import annotations

import uuid
from functools import partial
from typing import Any

import numpy as np
from fastapi import APIRouter, Request
from fastapi.responses import Response

from ..connection import request_body, while_connected
from ..inputs import pairs, query_and_documents
from ..registry import json_answer, registry_of, request_schema
from ..schemas.rerank import RerankRequest
from ..service import Vectors

router = APIRouter()


@router.post("/v1/rerank", openapi_extra=request_schema(RerankRequest))
async def rerank(request: Request) -> Response:
    body = await request_body(request, RerankRequest)
    service = registry_of(request).for_reranking(body.model)
    request.scope["log"]["model"] = service.name
    prepare = pairs if service.checkpoint.scores else query_and_documents
    rows, tokens = await while_connected(request, service.encode(partial(prepare, request=body)))
    scores = _probabilities(rows, service.checkpoint.config) if service.checkpoint.scores else _cosines(rows)
    order = np.argsort(-scores, kind="stable")[: body.top_n]
    results: list[dict[str, Any]] = [
        {"index": index, "relevance_score": float(scores[index])}
        | ({"document": {"text": body.texts[index]}} if body.return_documents else {})
        for index in order.tolist()
    ]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    request.scope["log"]["tokens"] = usage
    answer = {"id": f"rerank-{uuid.uuid4().hex}", "model": service.name, "results": results, "usage": usage}
    return json_answer(answer)


def _cosines(rows: Vectors) -> Vectors:
    """Of the first row with each other one."""
    units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    cosines: Vectors = units[1:] @ units[0]
    return cosines


def _probabilities(rows: Vectors, config: dict[str, Any]) -> Vectors:
    """Of a match, unless the model's author (sentence-transformers' key) wants the numbers as they are."""
    scores: Vectors = rows[:, 0]
    activation = str((config.get("sentence_transformers") or {}).get("activation_fn", ""))
    return scores if activation.endswith("Identity") else np.asarray(1 / (1 + np.exp(-scores)), dtype=np.float32)
