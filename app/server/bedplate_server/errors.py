"""The two kinds of errors: a refused request (OpenAI-shaped) and a refused start (BP code, cause, fix)."""

from __future__ import annotations

from typing import Any

import orjson
from starlette.exceptions import HTTPException


class Refusal(Exception):
    """The service cannot start like this; `str()` is the one line an operator reads.

    The codes from BP650 on are the service's; each has a section in docs/errors.md.
    """

    def __init__(self, code: str, what: str, fix: str) -> None:
        super().__init__(f"{code} {what} Fix: {fix}")
        self.code, self.what, self.fix = code, what, fix


class ApiError(HTTPException):
    """A request that is not served, as the OpenAI API words it.

    Shape: `{"error": {"message", "type", "param", "code"}}`, all four always there. `retry_after` (seconds)
    marks a passing condition: it becomes the Retry-After header and `x-should-retry: true`, which the
    official clients obey.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str,
        param: str | None = None,
        kind: str = "invalid_request_error",
        retry_after: int | None = None,
    ) -> None:
        headers = {"x-should-retry": "false" if retry_after is None else "true"}
        if retry_after is not None:
            headers["retry-after"] = str(retry_after)
        if status == 401:
            headers["www-authenticate"] = "Bearer"
        super().__init__(status, message, headers)
        self.payload: dict[str, Any] = {"error": {"message": message, "type": kind, "param": param, "code": code}}

    @property
    def body(self) -> bytes:
        return orjson.dumps(self.payload)


def bad_request(message: str, param: str | None, code: str = "invalid_value") -> ApiError:
    return ApiError(400, message, code=code, param=param)


def form_refused(cause: str) -> ApiError:
    """What is asked of an answer's form is well formed, but cannot be followed by this model or in its bounds."""
    found = f"The form that response_format or tools ask of the answer cannot be followed: {cause}"
    return bad_request(found, "response_format", "invalid_json_schema")


def context_length_exceeded(limit: int, prompt: int, completion: int, param: str = "messages") -> ApiError:
    """The sentence other software looks for: LiteLLM and the agents match on its first half."""
    asked = f"your {param} resulted in {prompt} tokens"
    if completion:
        parts = f"{prompt} in the {param}, {completion} in the completion"
        asked = f"you requested {prompt + completion} tokens ({parts})"
    return bad_request(
        f"This model's maximum context length is {limit} tokens. However, {asked}. "
        f"Please reduce the length of the {param} or completion.",
        param,
        "context_length_exceeded",
    )


def model_not_found(name: str) -> ApiError:
    return ApiError(
        404,
        f"The model `{name}` does not exist or is not served here.",
        code="model_not_found",
        param="model",
    )


def overloaded(waiting: int) -> ApiError:
    return ApiError(
        429,
        f"The server is overloaded: {waiting} generations are running or waiting. Please try again shortly.",
        code="rate_limit_exceeded",
        kind="rate_limit_error",
        retry_after=1,
    )


def unavailable(message: str, code: str = "service_unavailable", retry_after: int = 5) -> ApiError:
    return ApiError(503, message, code=code, kind="server_error", retry_after=retry_after)


def shutting_down() -> ApiError:
    return unavailable("The server is shutting down; please try again.", "server_shutting_down", 2)


def engine_failed(message: str) -> ApiError:
    return ApiError(500, message, code="engine_error", kind="server_error", retry_after=1)


def internal_error() -> ApiError:
    return ApiError(
        500,
        "The server had an error while processing your request; its log has the request id.",
        code="internal_error",
        kind="server_error",
        retry_after=1,
    )


def from_http_exception(error: HTTPException, method: str, path: str) -> ApiError:
    """Give Starlette's own refusals (unknown path, wrong method) the OpenAI shape."""
    if isinstance(error, ApiError):
        return error
    if error.status_code == 404:
        return ApiError(404, f"Unknown path: {path[:200]}", code="not_found")
    refusal = ApiError(error.status_code, f"{method} {path[:200]}: {error.detail}", code="method_not_allowed")
    refusal.headers = {**(error.headers or {}), **(refusal.headers or {})}
    return refusal
