"""The served models by name, and the checks on naming one."""

from __future__ import annotations

from typing import Any, NoReturn

import orjson
from fastapi import Request
from fastapi.responses import Response

from ..config import Config
from ..errors import bad_request, model_not_found
from .metrics import Metrics
from .service import ModelService


class Registry:
    """What the routes share: the configuration, one service per model, and the metrics."""

    def __init__(self, config: Config, services: dict[str, ModelService], metrics: Metrics) -> None:
        self.metrics = metrics
        self.config = config
        self.services = services
        self._adapted = {name: service for service in services.values() for name in service.adapters}

    def named(self, name: str) -> ModelService:
        """The service of a model, or of the model that an adapter of that name belongs to."""
        service = self.services.get(name) or self._adapted.get(name)
        if service is None:
            raise model_not_found(name[:200])
        return service

    def for_chat(self, name: str) -> ModelService:
        service = self.named(name)
        return service if service.checkpoint.chats else _refuse(name, service, "chat")

    def for_completion(self, name: str) -> ModelService:
        service = self.named(name)
        return service if service.checkpoint.generates else _refuse(name, service, "continue texts")

    def for_embedding(self, name: str) -> ModelService:
        service = self.named(name)
        if not service.checkpoint.embeds or name in service.adapters:
            raise bad_request(f"The model `{name}` does not serve embeddings.", "model", "model_not_supported")
        return service

    def for_reranking(self, name: str) -> ModelService:
        """A cross-encoder, or an embedding model, whose vectors are compared."""
        service = self.named(name)
        return service if service.checkpoint.scores else self.for_embedding(name)


def _refuse(name: str, service: ModelService, what: str) -> NoReturn:
    problem = f"The model `{name}` does not {what}; its task is {service.checkpoint.task}."
    raise bad_request(problem, "model", "model_not_supported")


def registry_of(request: Request) -> Registry:
    registry: Registry = request.app.state.registry
    return registry


def json_answer(content: dict[str, Any], status: int = 200) -> Response:
    return Response(orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY), status, media_type="application/json")


def request_schema(model: Any) -> dict[str, Any]:
    """The body of a route for /openapi.json; the routes read it themselves, to refuse in OpenAI's shape."""
    schema = model.model_json_schema()
    schema = _inlined(schema, schema.pop("$defs", {}))
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def _inlined(schema: Any, definitions: dict[str, Any]) -> Any:
    """`schema` with every reference replaced by what it refers to."""
    if isinstance(schema, list):
        return [_inlined(part, definitions) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _inlined(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    # A discriminator maps values to the places of definitions that stand in line now.
    return {name: _inlined(part, definitions) for name, part in schema.items() if name != "discriminator"}
