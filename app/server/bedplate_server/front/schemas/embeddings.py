"""POST /v1/embeddings."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from .base import Request

MAX_INPUTS = 2048


def _as_inputs(value: Any) -> Any:
    """str, [str], [int] or [[int]] as a list of str or [int]."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and value and isinstance(value[0], int):
        return [value]
    return value


def _one_input(value: Any) -> Any:
    if isinstance(value, str) and value:
        return value
    if isinstance(value, list) and value and all(type(token) is int and token >= 0 for token in value):
        return value
    raise ValueError("each input must be a non-empty string or a non-empty list of token ids")


_INPUT_SCHEMA = {
    "anyOf": [
        {"type": "string", "minLength": 1},
        {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1, "maxItems": MAX_INPUTS},
        {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1},
        {
            "type": "array",
            "items": {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1},
            "minItems": 1,
            "maxItems": MAX_INPUTS,
        },
    ]
}


class EmbeddingRequest(Request):
    """Body of POST /v1/embeddings. `input` is settled to a list of texts or token lists."""

    input: Annotated[
        list[Annotated[Any, BeforeValidator(_one_input)]],
        Field(min_length=1, max_length=MAX_INPUTS),
        BeforeValidator(_as_inputs),
        WithJsonSchema(_INPUT_SCHEMA),
    ]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Annotated[int, Field(ge=1)] | None = None
    # vLLM's: longer texts are cut to as many tokens, -1 for as many as the model reads. Without it they are refused.
    truncate_prompt_tokens: Annotated[int, Field(ge=-1, lt=2**31)] | None = None
