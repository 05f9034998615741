"""The turns of a conversation."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, StringConstraints, WithJsonSchema, model_validator

from .base import Strict, inconsistent, without_neutral
from .tools import ToolCall

# Of messages, as answers come back in the next request.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "annotations": ([],),
    "audio": (),
    "function_call": (),
    "refusal": (),
}


class TextPart(Strict):
    type: Literal["text"]
    text: str


def _as_parts(content: Any) -> Any:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


class Message(Strict):
    """One turn of the conversation. A developer message is what a system message was called before."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: (
        Annotated[
            list[TextPart],
            BeforeValidator(_as_parts),
            WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": TextPart.model_json_schema()}]}),
        ]
        | None
    ) = None
    name: str | None = None
    tool_calls: list[ToolCall] = Field(default=[], max_length=128)
    tool_call_id: Annotated[str, StringConstraints(min_length=1, max_length=200)] | None = None
    reasoning_content: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _served(cls, fields: Any) -> Any:
        return without_neutral(fields, _NEUTRAL, cls)

    @model_validator(mode="after")
    def _of_its_role(self) -> Self:
        if self.content is None and not (self.role == "assistant" and (self.tool_calls or self.reasoning_content)):
            raise inconsistent("content", "is missing")
        if self.role != "assistant" and self.tool_calls:
            raise inconsistent("tool_calls", "belongs to assistant messages")
        if self.role != "assistant" and self.reasoning_content:
            raise inconsistent("reasoning_content", "belongs to assistant messages")
        if (self.role == "tool") != (self.tool_call_id is not None):
            raise inconsistent("tool_call_id", "belongs to every message of the role tool, and to no other")
        for index, call in enumerate(self.tool_calls):
            try:
                call.for_template()
            except ValueError:
                raise inconsistent(f"tool_calls[{index}].function.arguments", "is not JSON") from None
        return self

    def for_template(self) -> dict[str, Any]:
        """The keys that the message has, as Transformers' chat templates expect them."""
        role = "system" if self.role == "developer" else self.role
        turn: dict[str, Any] = {"role": role, "content": "".join(part.text for part in self.content or [])}
        optional: dict[str, Any] = {
            "name": self.name,
            "tool_calls": [call.for_template() for call in self.tool_calls] or None,
            "tool_call_id": self.tool_call_id,
            "reasoning_content": self.reasoning_content,
        }
        return turn | {name: value for name, value in optional.items() if value is not None}
