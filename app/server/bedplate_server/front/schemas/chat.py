"""POST /v1/chat/completions."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from ..sampling_fields import ChatSamplingFields
from .base import Request, Strict, inconsistent
from .messages import Message


class StreamOptions(Strict):
    include_usage: bool = False


class ChatRequest(ChatSamplingFields, Request):
    """Body of POST /v1/chat/completions."""

    messages: Annotated[list[Message], Field(min_length=1)]
    stream: bool = False
    stream_options: StreamOptions | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.stream_options is not None and not self.stream:
            raise inconsistent("stream_options", "is only allowed when stream is true")
        return self
