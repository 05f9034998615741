"""The front's tokens are Transformers' tokens, from any number of threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from bedplate_server.errors import ApiError
from bedplate_server.front.text import TextCodec
from transformers import AutoTokenizer

TURNS = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "你好 😀 how are you?"},
    {"role": "assistant", "content": "fine"},
    {"role": "user", "content": "<|end|> and then?"},
]


@pytest.fixture(scope="module")
def codec(models: dict[str, Path]) -> TextCodec:
    return TextCodec(models["llama"])


def test_chat_prompt_equals_apply_chat_template(codec: TextCodec, models: dict[str, Path]) -> None:
    reference = AutoTokenizer.from_pretrained(models["llama"])
    for length in range(1, 5):
        wanted = reference.apply_chat_template(TURNS[:length], add_generation_prompt=True)["input_ids"]
        assert codec.chat_prompt(TURNS[:length]) == wanted


def test_texts_to_embed_have_the_special_tokens(models: dict[str, Path]) -> None:
    reference = AutoTokenizer.from_pretrained(models["encoder"])
    ids = TextCodec(models["encoder"]).tokens("你好 you", special=True)
    assert ids == reference("你好 you")["input_ids"]
    assert ids[-1] == reference.eos_token_id


def test_a_template_that_refuses_is_the_clients_error(codec: TextCodec) -> None:
    with pytest.raises(ApiError) as refused:
        codec.chat_prompt([{"role": "user", "content": "refuse me"}])
    assert refused.value.status_code == 400
    assert refused.value.payload["error"]["param"] == "messages"
    assert "this template refuses" in refused.value.payload["error"]["message"]


def test_threads_share_one_codec(codec: TextCodec) -> None:
    conversations = [[{"role": "user", "content": f"{number} 你好 " * (number + 1)}] for number in range(40)]
    wanted = [codec.chat_prompt(turns) for turns in conversations]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(codec.chat_prompt, conversations)) == wanted
