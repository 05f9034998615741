"""/tokenize and /detokenize say what a model reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx2
import pytest
from transformers import AutoTokenizer

from tests.app.support.server import ServerProcess

TEXT = "你好 hello 😀 <|end|>"
TURNS = [{"role": "user", "content": "hello"}]


@pytest.fixture(scope="module")
def http(server: ServerProcess) -> httpx2.Client:
    return server.http()


def tokenized(http: httpx2.Client, **fields: Any) -> dict[str, Any]:
    response = http.post("/tokenize", json=fields)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def test_tokens_are_the_models_own_and_read_back(http: httpx2.Client, models: dict[str, Path]) -> None:
    for name in ("llama", "encoder"):
        words = AutoTokenizer.from_pretrained(models[name])
        answer = tokenized(http, model=name, prompt=TEXT)
        assert answer["tokens"] == words(TEXT)["input_ids"]
        assert (answer["count"], answer["max_model_len"]) == (len(answer["tokens"]), 512)
        assert answer["token_strs"] is None
    bare = tokenized(http, model="encoder", prompt=TEXT, add_special_tokens=False, return_token_strs=True)
    assert bare["tokens"] == answer["tokens"][1:-1]
    assert bare["token_strs"][-1] == "<|end|>"
    read = http.post("/detokenize", json={"model": "encoder", "tokens": bare["tokens"]}).json()
    assert read == {"prompt": TEXT}


def test_conversations_are_read_through_the_template(http: httpx2.Client, models: dict[str, Path]) -> None:
    words = AutoTokenizer.from_pretrained(models["llama"])
    for begun in (True, False):
        wanted = words.apply_chat_template(TURNS, add_generation_prompt=begun)["input_ids"]
        answer = tokenized(http, model="llama", messages=TURNS, add_generation_prompt=begun)
        assert answer["tokens"] == wanted


@pytest.mark.parametrize(
    ("path", "fields", "param"),
    [
        ("/tokenize", {}, "prompt"),
        ("/tokenize", {"prompt": "x", "messages": TURNS}, "prompt"),
        ("/tokenize", {"messages": TURNS, "add_special_tokens": True}, "add_special_tokens"),
        ("/tokenize", {"prompt": "x", "colour": "red"}, "colour"),
        ("/detokenize", {"tokens": [10**6]}, "tokens"),
        ("/detokenize", {"tokens": [-1]}, "tokens[0]"),
        ("/detokenize", {}, "tokens"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(
    http: httpx2.Client, path: str, fields: dict[str, Any], param: str
) -> None:
    response = http.post(path, json={"model": "llama", **fields})
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)
