"""POST /tokenize and /detokenize, as vLLM has them."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from .base import Request, inconsistent
from .messages import Message


class TokenizeRequest(Request):
    """Body of POST /tokenize: a text (`prompt`) or a conversation (`messages`)."""

    prompt: str | None = None
    messages: Annotated[list[Message], Field(min_length=1)] | None = None
    # Null: special tokens around a text, none around a conversation, whose template brings its own.
    add_special_tokens: bool | None = None
    add_generation_prompt: bool = True
    return_token_strs: bool = False

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.prompt is None) == (self.messages is None):
            raise inconsistent("prompt", "or messages must be given, and not both")
        if self.messages is not None and self.add_special_tokens:
            raise inconsistent("add_special_tokens", "is not for messages: the chat template brings its own")
        return self


class DetokenizeRequest(Request):
    """Body of POST /detokenize."""

    tokens: Annotated[list[Annotated[int, Field(ge=0)]], Field(max_length=1_000_000)]
