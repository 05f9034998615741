"""Bedplate's inference service: an OpenAI-compatible front process and one engine process per model."""

__version__ = "0.1.0"
