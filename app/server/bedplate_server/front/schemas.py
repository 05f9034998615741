"""What clients may ask for. A field that is not here is refused by name, never ignored.

A null counts as not given, as OpenAI's own clients send it. Values of OpenAI's fields that ask for nothing
(`n: 1`, `tools: []`) are accepted even where the field as such is not served: see `_NEUTRAL`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError

from ..errors import ApiError, bad_request

MAX_CHOICES = 128
MAX_INPUTS = 2048

# Per field that is known but not served: the values that ask for nothing.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "frequency_penalty": (0,),
    "function_call": ("none", "auto"),
    "functions": ([],),
    "logit_bias": ({},),
    "logprobs": (False,),
    "metadata": ({},),
    "min_p": (0,),
    "min_tokens": (0,),
    "modalities": (["text"],),
    "parallel_tool_calls": (True, False),
    "presence_penalty": (0,),
    "repetition_penalty": (1,),
    "response_format": ({"type": "text"},),
    "service_tier": ("auto", "default"),
    "store": (False,),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "top_logprobs": (0,),
    # Known fields without a neutral value but null.
    "audio": (),
    "dimensions": (),
    "ignore_eos": (False,),
    "prediction": (),
    "reasoning_effort": (),
    "verbosity": (),
    "web_search_options": (),
    "chat_template_kwargs": ({},),
    "continue_final_message": (False,),
    "add_generation_prompt": (True,),
}
# Of messages, as answers come back in the next request.
_NEUTRAL_IN_MESSAGE: dict[str, tuple[Any, ...]] = {
    "annotations": ([],),
    "audio": (),
    "function_call": (),
    "reasoning_content": ("",),
    "refusal": (),
    "tool_call_id": (),
    "tool_calls": ([],),
}


def _without_neutral(fields: Any, neutral: dict[str, tuple[Any, ...]]) -> Any:
    """`fields` less nulls and what asks for nothing; a known field that asks for something is an error."""
    if not isinstance(fields, dict):
        return fields
    asked = {name: value for name, value in fields.items() if value is not None}
    for name in [name for name in asked if name in neutral]:
        if asked.pop(name) not in neutral[name]:
            raise PydanticCustomError(
                "unsupported_parameter",
                "{name} asks for something this server does not do",
                {"name": name},
            )
    return asked


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    model: str
    # Who asks, for the client's own bookkeeping; these ask nothing of the answer.
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _served(cls, fields: Any) -> Any:
        return _without_neutral(fields, _NEUTRAL)


class TextPart(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    type: Literal["text"]
    text: str


def _as_parts(content: Any) -> Any:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


class Message(BaseModel):
    """One turn of the conversation. A developer message is what a system message was called before."""

    model_config = ConfigDict(extra="forbid", strict=True)

    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[
        list[TextPart],
        BeforeValidator(_as_parts),
        WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": TextPart.model_json_schema()}]}),
    ]
    name: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _served(cls, fields: Any) -> Any:
        return _without_neutral(fields, _NEUTRAL_IN_MESSAGE)

    def for_template(self) -> dict[str, str]:
        role = "system" if self.role == "developer" else self.role
        turn = {"role": role, "content": "".join(part.text for part in self.content)}
        return turn if self.name is None else {**turn, "name": self.name}


class StreamOptions(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    include_usage: bool = False


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


_STOP_SCHEMA = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "maxItems": 16}]}


class ChatRequest(_Request):
    """Body of POST /v1/chat/completions."""

    messages: Annotated[list[Message], Field(min_length=1)]
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
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
    stream: bool = False
    stream_options: StreamOptions | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.stream_options is not None and not self.stream:
            raise _inconsistent("stream_options", "is only allowed when stream is true")
        if None not in (self.max_tokens, self.max_completion_tokens) and (
            self.max_tokens != self.max_completion_tokens
        ):
            raise _inconsistent("max_tokens", "differs from max_completion_tokens; give one of them")
        return self

    @property
    def token_limit(self) -> int | None:
        return self.max_completion_tokens if self.max_completion_tokens is not None else self.max_tokens


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


class EmbeddingRequest(_Request):
    """Body of POST /v1/embeddings. `input` is settled to a list of texts or token lists."""

    input: Annotated[
        list[Annotated[Any, BeforeValidator(_one_input)]],
        Field(min_length=1, max_length=MAX_INPUTS),
        BeforeValidator(_as_inputs),
        WithJsonSchema(_INPUT_SCHEMA),
    ]
    encoding_format: Literal["float", "base64"] = "float"


def _inconsistent(field: str, problem: str) -> PydanticCustomError:
    return PydanticCustomError("inconsistent", "{name} {problem}", {"name": field, "problem": problem})


RequestType = TypeVar("RequestType", bound=_Request)


def parse(kind: type[RequestType], body: bytes) -> RequestType:
    """The request in `body`, or ApiError 400 that names the first parameter at fault."""
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        raise _as_api_error(error) from None


def _as_api_error(error: ValidationError) -> ApiError:
    problem = error.errors(include_url=False)[0]
    where = problem["loc"]
    if problem["type"] in ("unsupported_parameter", "inconsistent"):
        where = (*where, problem["ctx"]["name"])
    param = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in where).lstrip(".")[:200] or None
    message = problem["msg"].removeprefix("Value error, ")
    match problem["type"]:
        case "json_invalid":
            return bad_request(f"The body is not valid JSON: {message}", None, "invalid_json")
        case "missing":
            return bad_request(f"Missing required parameter: '{param}'.", param, "missing_required_parameter")
        case "extra_forbidden":
            return bad_request(f"Unrecognized request argument supplied: {param}", param, "unknown_parameter")
        case "unsupported_parameter":
            return bad_request(f"{message}.", param, "unsupported_parameter")
    return bad_request(f"Invalid value for '{param or 'body'}': {message}.", param)
