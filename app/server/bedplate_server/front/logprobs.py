"""Log probabilities as OpenAI's two forms show them: what each token reads like, and which bytes it stands for."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer

from ..protocol import Logprobs

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
_HALF = "\ufffd"


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """One token of the answer with its log probability and alternatives."""

    token: int
    logprobs: Logprobs


@dataclass(frozen=True, slots=True)
class Echo:
    """What an answer begins with where its prompt is wanted. `unseen`: tokens of it that its text does not show."""

    text: str = ""
    tokens: tuple[int, ...] = ()
    unseen: frozenset[int] = frozenset()


def chat_content(tokenizer: Tokenizer, tokens: list[TokenLogprobs]) -> list[dict[str, Any]]:
    """`choices[].logprobs.content` of a chat completion."""

    def entry(token: int, logprob: float) -> dict[str, Any]:
        data = token_bytes(tokenizer, token)
        return {"token": data.decode(errors="replace"), "logprob": _finite(logprob), "bytes": list(data)}

    return [
        {**entry(one.token, one.logprobs[0]), "top_logprobs": [entry(*other) for other in one.logprobs[1]]}
        for one in tokens
    ]


def completion_logprobs(tokenizer: Tokenizer, tokens: list[TokenLogprobs], offset: int = 0) -> dict[str, list[Any]]:
    """`choices[].logprobs` of a plain completion; `offset` is where the first token's text begins."""
    texts = [token_bytes(tokenizer, one.token).decode(errors="replace") for one in tokens]
    offsets = [offset + sum(map(len, texts[:number])) for number in range(len(texts))]
    return {
        "tokens": texts,
        "token_logprobs": [_finite(one.logprobs[0]) for one in tokens],
        "top_logprobs": [_by_text(tokenizer, one.logprobs[1]) for one in tokens],
        "text_offset": offsets,
    }


def _by_text(tokenizer: Tokenizer, alternatives: list[tuple[int, float]]) -> dict[str, float]:
    """Of tokens that read alike (halves of characters do), the likeliest, which comes first."""
    found: dict[str, float] = {}
    for token, logprob in alternatives:
        found.setdefault(token_bytes(tokenizer, token).decode(errors="replace"), _finite(logprob))
    return found


def echoed_logprobs(
    tokenizer: Tokenizer, echo: Echo, prompt: list[Logprobs], answer: list[TokenLogprobs]
) -> dict[str, list[Any]]:
    """The same with the prompt's tokens in front, of which the first has no log probability. `prompt`: the others'."""
    known = [TokenLogprobs(*pair) for pair in zip(echo.tokens[1:], prompt, strict=True)]
    shown, behind = completion_logprobs(tokenizer, known), completion_logprobs(tokenizer, answer, len(echo.text))
    shown["tokens"].insert(0, token_bytes(tokenizer, echo.tokens[0]).decode(errors="replace"))
    shown["token_logprobs"].insert(0, None)
    shown["top_logprobs"].insert(0, None)
    pairs = zip(echo.tokens, shown["tokens"], strict=True)
    widths = (0 if token in echo.unseen else len(text) for token, text in pairs)
    shown["text_offset"] = list(itertools.accumulate(widths, initial=0))[:-1]
    return {name: shown[name] + behind[name] for name in shown}


def token_bytes(tokenizer: Tokenizer, token: int) -> bytes:
    """What one token adds to the text, be it half a character; a leading space included."""
    piece = tokenizer.id_to_token(token)
    if piece is None:
        return b""
    if match := _BYTE.fullmatch(piece):
        return bytes([int(match[1], 16)])
    text: str = tokenizer.decode([token], skip_special_tokens=False)
    if _HALF in text and all(letter in _BYTE_LEVEL for letter in piece):
        return bytes(_BYTE_LEVEL[letter] for letter in piece)
    # SentencePiece's decoders drop the space before a text's first word.
    return (piece.replace("▁", " ") if piece.startswith("▁") else text).encode()


def _byte_level_alphabet() -> dict[str, int]:
    """The letters that byte-level BPE writes bytes with: printable ones stand for themselves, others move up."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    moved = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + index): byte for index, byte in enumerate(moved)}


_BYTE_LEVEL = _byte_level_alphabet()


def _finite(logprob: float) -> float:
    """JSON has no infinity; -9999 is what OpenAI and vLLM write for what cannot happen."""
    return max(logprob, -9999.0)
