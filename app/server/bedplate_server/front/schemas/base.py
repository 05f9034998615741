"""What all requests share: strict fields, and refusals that name the parameter.

A null counts as not given, as OpenAI's own clients send it. Values of OpenAI's fields that ask for nothing
(`n: 1`, `tools: []`) are accepted even where the field as such is not served: see `_NEUTRAL`.
"""

from __future__ import annotations

from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from ...errors import ApiError, bad_request

# Per field that is known but not served: the values that ask for nothing. A request class that has the field serves it.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "audio": (),
    "function_call": ("none", "auto"),
    "functions": ([],),
    "metadata": ({},),
    "modalities": (["text"],),
    "prediction": (),
    "service_tier": ("auto", "default"),
    "store": (False,),
    "verbosity": (),
    "web_search_options": (),
}


class Strict(BaseModel):
    """Fields of exactly their type and no others."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Request(Strict):
    """Body of a POST."""

    model: str
    # Who asks, for the client's own bookkeeping; these ask nothing of the answer.
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _served(cls, fields: Any) -> Any:
        return without_neutral(fields, _NEUTRAL, cls)


def without_neutral(fields: Any, neutral: dict[str, tuple[Any, ...]], kind: type[BaseModel]) -> Any:
    """`fields` less nulls and what asks for nothing; a known field that asks for something is an error."""
    if not isinstance(fields, dict):
        return fields
    asked = {name: value for name, value in fields.items() if value is not None}
    for name in [name for name in asked if name in neutral and name not in kind.model_fields]:
        if asked.pop(name) not in neutral[name]:
            raise PydanticCustomError(
                "unsupported_parameter",
                "{name} asks for something this server does not do",
                {"name": name},
            )
    return asked


def inconsistent(field: str, problem: str) -> PydanticCustomError:
    """To raise in a validator of the whole request: the field at fault and what is wrong with it."""
    return PydanticCustomError("inconsistent", "{name} {problem}", {"name": field, "problem": problem})


RequestType = TypeVar("RequestType", bound=Request)


def parse(kind: type[RequestType], body: bytes) -> RequestType:
    """The request in `body`, or ApiError 400 that names the first parameter at fault."""
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        raise _as_api_error(error, body) from None


def _as_api_error(error: ValidationError, body: bytes) -> ApiError:
    problem = error.errors(include_url=False)[0]
    where = _in_body(problem["loc"], body, missing=problem["type"] == "missing")
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


def _in_body(where: tuple[int | str, ...], body: bytes, *, missing: bool) -> tuple[int | str, ...]:
    """`where` as the client wrote it: pydantic also names the member of a union that it tried."""
    try:
        value: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        return ()
    kept: list[int | str] = []
    for number, part in enumerate(where):
        if isinstance(part, str) and not (isinstance(value, dict) and part in value):
            if missing and number == len(where) - 1:
                kept.append(part)
            continue
        kept.append(part)
        if isinstance(value, dict) or (isinstance(value, list) and isinstance(part, int) and part < len(value)):
            # A dict's part is a key of it by now, a list's a number; mypy does not see which goes with which.
            value = value[part]  # type: ignore[index]
    return tuple(kept)
