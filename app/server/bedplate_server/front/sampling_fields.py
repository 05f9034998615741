"""The fields of a request that say how its tokens are chosen, the same for chat and plain completions."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, Field, StringConstraints, WithJsonSchema

MAX_CHOICES = 128


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


_STOP_SCHEMA = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "maxItems": 16}]}


class SamplingFields(BaseModel):
    """Null means: what the model's author says in generation_config.json, else OpenAI's default."""

    max_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=-1)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: Annotated[
        list[Annotated[str, StringConstraints(min_length=1, max_length=1000)]],
        Field(max_length=16),
        BeforeValidator(_as_list),
        WithJsonSchema(_STOP_SCHEMA),
    ] = []
    n: Annotated[int, Field(ge=1, le=MAX_CHOICES)] = 1

    @property
    def token_limit(self) -> int | None:
        return self.max_tokens
