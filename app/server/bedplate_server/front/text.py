"""Text to tokens: chat template and tokenizer of one model.

Slow (milliseconds to seconds for long prompts), so it is called in threads, never on the event loop.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import jinja2
from tokenizers import Tokenizer

from ..errors import bad_request

_IMPORTING = threading.Lock()


class TextCodec:
    """The tokenizer of a model directory. Nothing in it changes after loading, so threads may share it."""

    def __init__(self, path: Path) -> None:
        # Imported here because it takes a second, in which engines start; by one thread, because Transformers' lazy
        # modules break when two import from them at once.
        with _IMPORTING:
            from transformers import AutoTokenizer

        self._transformers: Any = AutoTokenizer.from_pretrained(
            path, local_files_only=True, trust_remote_code=False, use_fast=True
        )
        # Encoding through the Transformers object sets truncation on the shared tokenizer and is not
        # thread-safe; its Rust core is.
        self.tokenizer: Tokenizer = self._transformers.backend_tokenizer

    def chat_prompt(self, turns: list[dict[str, str]]) -> list[int]:
        """Token ids of the conversation and the start of the answer. ApiError 400 if the template refuses."""
        try:
            prompt = self._transformers.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        except (jinja2.TemplateError, TypeError, ValueError, LookupError) as error:
            raise bad_request(f"The model's chat template refuses these messages: {error}", "messages") from None
        return self.tokenizer.encode(prompt, add_special_tokens=False).ids

    def embedding_input(self, text: str) -> list[int]:
        """Token ids of `text` with the special tokens the model was trained to see around it."""
        return self.tokenizer.encode(text, add_special_tokens=True).ids
