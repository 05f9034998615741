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
from .logprobs import Echo

_IMPORTING = threading.Lock()


class TextCodec:
    """The tokenizer of a model directory. Nothing in it changes after loading, so threads may share it."""

    def __init__(self, path: Path, *, lowercase: bool = False) -> None:
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
        # tokenizer.json may ask for cutting and padding, of its author's training; here a text is read whole.
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        self._lowercase = lowercase

    @property
    def chat_template(self) -> str:
        """Its text; empty if the model has none."""
        template = self._transformers.chat_template
        if isinstance(template, dict):
            template = "\n".join(template.values())
        return template or ""

    @property
    def response_template(self) -> dict[str, Any] | None:
        """How answers are to be read, if the model's author says so."""
        template: dict[str, Any] | None = getattr(self._transformers, "response_template", None)
        return template

    @property
    def added_tokens(self) -> dict[str, int]:
        """Texts that are one token wherever they stand."""
        return {token.content: number for number, token in self.tokenizer.get_added_tokens_decoder().items()}

    @property
    def special_tokens(self) -> set[str]:
        """Those of them that readers do not get to see."""
        return {token.content for token in self.tokenizer.get_added_tokens_decoder().values() if token.special}

    def chat_prompt(self, turns: list[dict[str, Any]], **template: Any) -> list[int]:
        """Token ids of the conversation and the start of the answer; `template`: the chat template's own variables,
        tools and continue_final_message among them. ApiError 400 if the template refuses.
        """
        return self.tokenizer.encode(self.chat_text(turns, **template), add_special_tokens=False).ids

    def chat_text(self, turns: list[dict[str, Any]], **template: Any) -> str:
        """What chat_prompt encodes."""
        settings = {"add_generation_prompt": not template.get("continue_final_message"), **template}
        try:
            text: str = self._transformers.apply_chat_template(turns, tokenize=False, **settings)
        except (jinja2.TemplateError, TypeError, ValueError, LookupError) as error:
            raise bad_request(f"The model's chat template refuses these messages: {error}", "messages") from None
        return text

    def tokens(self, text: str, *, special: bool, limit: int | None = None) -> list[int]:
        """Token ids of `text`; `special`: with the tokens the model was trained to see around it. At most `limit`."""
        encoding = self._encoded(text)
        if limit is not None:
            encoding.truncate(max(limit - (self.tokenizer.num_special_tokens_to_add(False) if special else 0), 0))
        if special:
            encoding = self.tokenizer.post_process(encoding, None, True)
        tokens: list[int] = encoding.ids
        return tokens

    def pair(self, first: str, second: str, limit: int, longest_second: int | None) -> tuple[list[int], int]:
        """Token ids of two texts read together, and where the second begins, which is cut to fit `limit`."""
        one, two = self._encoded(first), self._encoded(second)
        room = limit - len(one.ids) - self.tokenizer.num_special_tokens_to_add(True)
        two.truncate(max(min(room, longest_second or room), 0))
        both = self.tokenizer.post_process(one, two, True)
        return both.ids, both.type_ids.index(1) if 1 in both.type_ids else len(both.ids)

    def text(self, tokens: list[int]) -> str:
        """What the tokens read like, special ones included."""
        return self.tokenizer.decode(tokens, skip_special_tokens=False)

    def echo(self, prompt: str | list[int], tokens: list[int]) -> Echo:
        """The prompt as its answer repeats it; `tokens` are what is read of it."""
        if not isinstance(prompt, str):
            return Echo(self.text(prompt), tuple(tokens))
        special = self.special_tokens
        unseen = frozenset(token for token in tokens if self.tokenizer.id_to_token(token) in special)
        return Echo(prompt, tuple(tokens), unseen)

    def _encoded(self, text: str) -> Any:
        return self.tokenizer.encode(text.lower() if self._lowercase else text, add_special_tokens=False)
