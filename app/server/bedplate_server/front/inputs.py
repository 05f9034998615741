"""What goes to an engine to be encoded: checked, so that it stumbles over nothing."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import bad_request, context_length_exceeded
from ..protocol import Ready
from .schemas.embeddings import EmbeddingRequest
from .schemas.rerank import RerankRequest
from .text import TextCodec


@dataclass(frozen=True, slots=True)
class Inputs:
    """Token lists, and for pairs where the second text begins in each."""

    tokens: list[list[int]]
    boundaries: list[int] | None = None

    @property
    def count(self) -> int:
        return sum(map(len, self.tokens))


def texts(codec: TextCodec, facts: Ready, request: EmbeddingRequest) -> Inputs:
    """The texts of an embedding request."""
    limit = request.truncate_prompt_tokens
    limit = facts.context_length if limit == -1 else limit
    settled = [
        codec.tokens(item, special=True, limit=limit) if isinstance(item, str) else item[:limit]
        for item in request.input
    ]
    for tokens in settled:
        check_tokens(tokens, facts, "input", room=0)
    return Inputs(settled)


def query_and_documents(codec: TextCodec, facts: Ready, request: RerankRequest) -> Inputs:
    """For an embedding model: the query, then the documents, each as a text of its own."""
    longest = min(request.max_tokens_per_doc or facts.context_length, facts.context_length)
    query = codec.tokens(request.query, special=True)
    check_tokens(query, facts, "query", room=0)
    return Inputs([query, *(codec.tokens(text, special=True, limit=longest) for text in request.texts)])


def pairs(codec: TextCodec, facts: Ready, request: RerankRequest) -> Inputs:
    """For a cross-encoder: the query with each document."""
    query = codec.tokens(request.query, special=True)
    check_tokens(query, facts, "query", room=1)
    both = [codec.pair(request.query, text, facts.context_length, request.max_tokens_per_doc) for text in request.texts]
    return Inputs([tokens for tokens, _ in both], [boundary for _, boundary in both])


def check_tokens(tokens: list[int], facts: Ready, param: str, room: int = 1) -> None:
    """Nothing reaches the engine that it could stumble over; `room` tokens must be left for an answer."""
    if not tokens:
        raise bad_request(f"'{param}' holds no tokens for this model.", param)
    if len(tokens) + room > facts.context_length:
        raise context_length_exceeded(facts.context_length, len(tokens), 0, param)
    if max(tokens) >= facts.vocabulary:
        raise bad_request(f"Token {max(tokens)} is outside the vocabulary of {facts.vocabulary} tokens.", param)
