"""Whether and how an answer is streamed."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, model_validator

from .base import Strict, inconsistent


class StreamOptions(Strict):
    """continuous_usage_stats (vLLM's): the usage so far in every chunk."""

    include_usage: bool = False
    continuous_usage_stats: bool = False
    # Padding against traffic analysis, which there is none of here.
    include_obfuscation: bool = False

    @model_validator(mode="after")
    def _served(self) -> Self:
        if self.include_obfuscation:
            raise inconsistent("include_obfuscation", "is not done by this server")
        return self


class StreamFields(BaseModel):
    stream: bool = False
    stream_options: StreamOptions | None = None

    @model_validator(mode="after")
    def _options_of_a_stream(self) -> Self:
        if self.stream_options is not None and not self.stream:
            raise inconsistent("stream_options", "is only allowed when stream is true")
        return self
