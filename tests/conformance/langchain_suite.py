"""LangChain's integration tests for chat models against the service; run by test_programs.py in their own environment."""

from __future__ import annotations

import os
from typing import Any

from langchain_openai import ChatOpenAI
from langchain_tests.integration_tests import ChatModelIntegrationTests


class TestBedplate(ChatModelIntegrationTests):
    """With the tutor, which calls no tools: tests/app holds tool calls and structured answers to stricter tests."""

    @property
    def chat_model_class(self) -> Any:
        return ChatOpenAI

    @property
    def chat_model_params(self) -> dict[str, Any]:
        address = os.environ["BEDPLATE_ADDRESS"]
        return {"model": "tutor", "base_url": address, "api_key": "none", "max_tokens": 60, "stream_usage": True}

    @property
    def has_tool_calling(self) -> bool:
        return False

    @property
    def has_structured_output(self) -> bool:
        return False
