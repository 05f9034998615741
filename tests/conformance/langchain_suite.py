"""LangChain's integration tests for chat models against the service; run by test_programs.py in their own environment."""

from __future__ import annotations

import os
from typing import Any

from langchain_openai import ChatOpenAI
from langchain_tests.integration_tests import ChatModelIntegrationTests


class TestBedplate(ChatModelIntegrationTests):
    """With a model of random weights: what depends on its good sense is left out, what depends on the service is not."""

    @property
    def chat_model_class(self) -> Any:
        return ChatOpenAI

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {
            "model": "tools",
            "base_url": os.environ["BEDPLATE_ADDRESS"],
            "api_key": "none",
            "max_tokens": 300,
            "seed": 7,
            "stream_usage": True,
        }

    @property
    def structured_output_kwargs(self) -> dict[str, Any]:
        return {"method": "json_schema"}

    @property
    def supports_json_mode(self) -> bool:
        return True
