"""POST /v1/chat/completions."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from ..sampling_fields import SamplingFields
from .base import Request, Strict, inconsistent
from .messages import Message


class StreamOptions(Strict):
    include_usage: bool = False


class ChatRequest(SamplingFields, Request):
    """Body of POST /v1/chat/completions."""

    messages: Annotated[list[Message], Field(min_length=1)]
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.stream_options is not None and not self.stream:
            raise inconsistent("stream_options", "is only allowed when stream is true")
        if None not in (self.max_tokens, self.max_completion_tokens) and (
            self.max_tokens != self.max_completion_tokens
        ):
            raise inconsistent("max_tokens", "differs from max_completion_tokens; give one of them")
        return self

    @property
    def token_limit(self) -> int | None:
        return self.max_completion_tokens if self.max_completion_tokens is not None else self.max_tokens
