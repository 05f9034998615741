"""POST /v1/completions."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Self

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from ..sampling_fields import MAX_CHOICES, CompletionSamplingFields
from .base import Request, inconsistent
from .streaming import StreamFields

MAX_PROMPTS = 128


def _as_prompts(value: Any) -> Any:
    """str, [str], [int] or [[int]] as a list of str or [int]."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and value and isinstance(value[0], int):
        return [value]
    return value


def _one_prompt(value: Any) -> Any:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value and all(type(token) is int and token >= 0 for token in value):
        return value
    raise ValueError("each prompt must be a string or a non-empty list of token ids")


_TOKENS = {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1}
_PROMPT_SCHEMA = {
    "anyOf": [
        {"type": "string"},
        {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": MAX_PROMPTS},
        _TOKENS,
        {"type": "array", "items": _TOKENS, "minItems": 1, "maxItems": MAX_PROMPTS},
    ]
}


class CompletionRequest(CompletionSamplingFields, StreamFields, Request):
    """Body of POST /v1/completions. `prompt` is settled to a list of texts or token lists."""

    usual_limit: ClassVar[int | None] = 16  # OpenAI's

    prompt: Annotated[
        list[Annotated[Any, BeforeValidator(_one_prompt)]],
        Field(min_length=1, max_length=MAX_PROMPTS),
        BeforeValidator(_as_prompts),
        WithJsonSchema(_PROMPT_SCHEMA),
    ]
    echo: bool = False
    best_of: Annotated[int, Field(ge=1, le=MAX_CHOICES)] | None = None
    suffix: str | None = None
    # vLLM's: the tokens that the model was trained to see before a text.
    add_special_tokens: bool = True

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.suffix:
            raise inconsistent("suffix", "is not done by this server")
        if self.best_of is not None and self.best_of < self.n:
            raise inconsistent("best_of", "is less than n")
        if self.stream and self.candidates > self.n:
            raise inconsistent("best_of", "cannot go with stream: which are best is only known at the end")
        return self

    @property
    def candidates(self) -> int:
        """How many answers are made for each prompt, of which the best `n` are shown."""
        return self.best_of or self.n

    @property
    def wanted_logprobs(self) -> int | None:
        """The best are those whose own tokens are the likeliest."""
        return 0 if self.logprobs is None and self.candidates > self.n else self.logprobs

    @property
    def wanted_prompt_logprobs(self) -> int | None:
        return self.logprobs if self.echo else None
