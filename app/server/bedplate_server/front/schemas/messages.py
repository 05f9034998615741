"""The turns of a conversation."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, WithJsonSchema, model_validator

from .base import Strict, without_neutral

# Of messages, as answers come back in the next request.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "annotations": ([],),
    "audio": (),
    "function_call": (),
    "reasoning_content": ("",),
    "refusal": (),
    "tool_call_id": (),
    "tool_calls": ([],),
}


class TextPart(Strict):
    type: Literal["text"]
    text: str


def _as_parts(content: Any) -> Any:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


class Message(Strict):
    """One turn of the conversation. A developer message is what a system message was called before."""

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
        return without_neutral(fields, _NEUTRAL, cls)

    def for_template(self) -> dict[str, str]:
        role = "system" if self.role == "developer" else self.role
        turn = {"role": role, "content": "".join(part.text for part in self.content)}
        return turn if self.name is None else {**turn, "name": self.name}
