"""Functions that a model may call, and its calls."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import orjson
from pydantic import Field, StringConstraints

from .base import Strict

FunctionName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]


class Function(Strict):
    """`parameters` is the JSON schema of the arguments; without one they are any object."""

    name: FunctionName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(Strict):
    type: Literal["function"]
    function: Function

    def for_template(self) -> dict[str, Any]:
        """As chat templates expect it: without `strict`, which is about this server."""
        schema = self.function.parameters or {"type": "object", "properties": {}}
        described = {"description": self.function.description} if self.function.description is not None else {}
        return {"type": "function", "function": {"name": self.function.name, **described, "parameters": schema}}


class _Named(Strict):
    name: FunctionName


class NamedTool(Strict):
    """`tool_choice` that names the function to call."""

    type: Literal["function"]
    function: _Named


class _Called(Strict):
    name: FunctionName
    arguments: str


class ToolCall(Strict):
    """A call of an earlier answer, as the client got it."""

    id: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    type: Literal["function"] = "function"
    function: _Called
    # LangChain and others send the streamed form back.
    index: Annotated[int, Field(ge=0)] | None = None

    def for_template(self) -> dict[str, Any]:
        """Arguments as the object that templates render; ValueError if they are not JSON."""
        arguments = orjson.loads(self.function.arguments or "{}")
        return {"id": self.id, "type": "function", "function": {"name": self.function.name, "arguments": arguments}}
