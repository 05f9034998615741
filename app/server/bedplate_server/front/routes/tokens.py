"""POST /tokenize and /detokenize: what a model reads of a text, and back."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from ...errors import bad_request
from ...protocol import Ready
from ..connection import request_body, while_connected
from ..conversation import Conversation
from ..registry import json_answer, registry_of, request_schema
from ..schemas.tokens import DetokenizeRequest, TokenizeRequest

router = APIRouter()


@router.post("/tokenize", openapi_extra=request_schema(TokenizeRequest))
async def tokenize(request: Request) -> Response:
    body = await request_body(request, TokenizeRequest)
    service = registry_of(request).named(body.model)

    def count(conversation: Conversation, facts: Ready) -> dict[str, Any]:
        codec = conversation.codec
        if body.prompt is not None:
            tokens = codec.tokens(body.prompt, special=body.add_special_tokens is not False)
        else:
            turns = [message.for_template() for message in body.messages or []]
            tokens = codec.chat_prompt(turns, add_generation_prompt=body.add_generation_prompt)
        answer = {"count": len(tokens), "max_model_len": facts.context_length, "tokens": tokens}
        strings = [codec.tokenizer.id_to_token(token) for token in tokens] if body.return_token_strs else None
        return {**answer, "token_strs": strings}

    return json_answer(await while_connected(request, service.text_work(count)))


@router.post("/detokenize", openapi_extra=request_schema(DetokenizeRequest))
async def detokenize(request: Request) -> Response:
    body = await request_body(request, DetokenizeRequest)
    service = registry_of(request).named(body.model)

    def read(conversation: Conversation, facts: Ready) -> dict[str, Any]:
        if body.tokens and max(body.tokens) >= facts.vocabulary:
            raise bad_request(f"Invalid value for 'tokens': the vocabulary has {facts.vocabulary} tokens.", "tokens")
        return {"prompt": conversation.codec.text(body.tokens)}

    return json_answer(await while_connected(request, service.text_work(read)))
