"""POST /v1/chat/completions."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from ..sampling_fields import ChatSamplingFields
from .base import Request, inconsistent
from .formats import ResponseFormat, TextFormat
from .messages import Message
from .streaming import StreamFields
from .tools import NamedTool, Tool

# What a chat template gets from elsewhere.
_TEMPLATE_OWN = ("messages", "tools", "add_generation_prompt", "continue_final_message", "tokenize", "return_dict")


class ChatRequest(ChatSamplingFields, StreamFields, Request):
    """Body of POST /v1/chat/completions."""

    messages: Annotated[list[Message], Field(min_length=1)]
    tools: list[Tool] = Field(default=[], max_length=128)
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    parallel_tool_calls: bool = True
    response_format: ResponseFormat | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None = None
    # vLLM's and Transformers': variables of the chat template, and how the prompt ends.
    chat_template_kwargs: dict[str, Any] = Field(default={})
    add_generation_prompt: bool | None = None
    continue_final_message: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [tool.function.name for tool in self.tools]
        if len(set(names)) != len(names):
            raise inconsistent("tools", "has two functions of one name")
        if not names and self.tool_choice not in (None, "none", "auto"):
            raise inconsistent("tool_choice", "is only allowed when tools are given")
        if isinstance(self.tool_choice, NamedTool) and self.tool_choice.function.name not in names:
            raise inconsistent("tool_choice", "names a function that is not among the tools")
        if self.forced_tools and not isinstance(self.response_format, TextFormat | None):
            raise inconsistent("response_format", "cannot go with a tool_choice that demands a call")
        if self.continue_final_message and self.add_generation_prompt:
            raise inconsistent("continue_final_message", "cannot go with add_generation_prompt")
        if self.continue_final_message and self.messages[-1].role != "assistant":
            raise inconsistent("continue_final_message", "needs an assistant message at the end")
        if taken := [name for name in self.chat_template_kwargs if name in _TEMPLATE_OWN]:
            raise inconsistent(f"chat_template_kwargs.{taken[0]}", "is a parameter of its own")
        return self

    @property
    def offered_tools(self) -> list[Tool]:
        """What the model gets to see."""
        return [] if self.tool_choice == "none" else self.tools

    @property
    def forced_tools(self) -> list[Tool]:
        """Of which the answer must call one; none if it is free to answer otherwise."""
        if isinstance(self.tool_choice, NamedTool):
            return [tool for tool in self.tools if tool.function.name == self.tool_choice.function.name]
        return self.tools if self.tool_choice == "required" else []

    @property
    def template_settings(self) -> dict[str, Any]:
        """The chat template's variables beside the messages."""
        settings: dict[str, Any] = {**self.chat_template_kwargs, "continue_final_message": self.continue_final_message}
        if self.offered_tools:
            settings["tools"] = [tool.for_template() for tool in self.offered_tools]
        if self.reasoning_effort is not None:
            settings["reasoning_effort"] = self.reasoning_effort
        if self.add_generation_prompt is not None:
            settings["add_generation_prompt"] = self.add_generation_prompt
        return settings
