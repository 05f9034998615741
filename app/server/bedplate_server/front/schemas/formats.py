"""`response_format`: the form an answer has to have."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from .base import Strict


class TextFormat(Strict):
    type: Literal["text"]


class JsonObjectFormat(Strict):
    type: Literal["json_object"]


class _Schema(Strict):
    name: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    description: str | None = None
    schema_: Annotated[dict[str, Any] | bool, Field(alias="schema")] = True
    # The answer follows the schema either way.
    strict: bool | None = None


class JsonSchemaFormat(Strict):
    type: Literal["json_schema"]
    json_schema: _Schema


ResponseFormat = Annotated[TextFormat | JsonObjectFormat | JsonSchemaFormat, Field(discriminator="type")]


def schema_of(form: TextFormat | JsonObjectFormat | JsonSchemaFormat | None) -> dict[str, Any] | bool | None:
    """The JSON schema that the answer must follow, None if it is free text."""
    match form:
        case JsonObjectFormat():
            return {"type": "object"}
        case JsonSchemaFormat():
            return form.json_schema.schema_
    return None
