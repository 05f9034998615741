"""POST /v1/rerank, as Jina, Cohere and vLLM have it."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, StringConstraints, WithJsonSchema

from .base import Request

MAX_DOCUMENTS = 1000
_Text = Annotated[str, StringConstraints(min_length=1)]


def _text_of(document: Any) -> Any:
    """A text, or an object that holds nothing but one."""
    return document["text"] if isinstance(document, dict) and set(document) == {"text"} else document


_DOCUMENT_SCHEMA = {
    "anyOf": [
        {"type": "string", "minLength": 1},
        {"type": "object", "properties": {"text": {"type": "string", "minLength": 1}}, "required": ["text"]},
    ]
}


class RerankRequest(Request):
    """Body of POST /v1/rerank. `documents` are settled to texts."""

    query: _Text
    texts: Annotated[
        list[Annotated[_Text, BeforeValidator(_text_of), WithJsonSchema(_DOCUMENT_SCHEMA)]],
        Field(min_length=1, max_length=MAX_DOCUMENTS, alias="documents"),
    ]
    top_n: Annotated[int, Field(ge=1)] | None = None
    return_documents: bool = False
    max_tokens_per_doc: Annotated[int, Field(ge=1)] | None = None
