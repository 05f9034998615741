"""Models, embeddings, health, and the shape of what the service says about itself."""

from __future__ import annotations

import base64
from pathlib import Path

import numpy as np
import openai
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from tests.app.support.server import ServerProcess

TEXTS = ["hello", "你好，世界", "layer by layer " * 20, "😀"]


@pytest.fixture(scope="module")
def client(server: ServerProcess) -> openai.OpenAI:
    return server.openai()


def test_models_are_listed_and_shown(client: openai.OpenAI) -> None:
    listed = {model.id: model for model in client.models.list()}
    assert set(listed) == {"llama", "encoder"}
    shown = client.models.retrieve("llama")
    assert shown == listed["llama"]
    assert (shown.object, shown.owned_by) == ("model", "bedplate")
    assert shown.created > 1_600_000_000
    assert shown.model_extra is not None
    assert shown.model_extra["max_model_len"] == 512
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-4o")


def reference(path: Path, text: str) -> np.ndarray:
    words, model = AutoTokenizer.from_pretrained(path), AutoModel.from_pretrained(path, dtype=torch.float32)
    with torch.inference_mode():
        states = model(**words(text, return_tensors="pt")).last_hidden_state[0]
    mean = states.mean(dim=0).numpy()
    return np.asarray(mean / np.linalg.norm(mean))


@pytest.mark.parametrize("name", ["encoder", "llama"])
def test_embeddings_are_unit_means_of_the_last_states(
    client: openai.OpenAI, models: dict[str, Path], name: str
) -> None:
    answer = client.embeddings.create(model=name, input=TEXTS)
    assert [item.index for item in answer.data] == list(range(len(TEXTS)))
    for text, item in zip(TEXTS, answer.data, strict=True):
        assert np.allclose(item.embedding, reference(models[name], text), atol=1e-5)
    words = AutoTokenizer.from_pretrained(models[name])
    assert answer.usage.prompt_tokens == sum(len(words(text)["input_ids"]) for text in TEXTS)


def test_float_and_base64_are_the_same_numbers(server: ServerProcess) -> None:
    with server.http() as http:
        asked = {"model": "encoder", "input": "hello"}
        as_float = http.post("/v1/embeddings", json=asked).json()
        as_base64 = http.post("/v1/embeddings", json={**asked, "encoding_format": "base64"}).json()
    decoded = np.frombuffer(base64.b64decode(as_base64["data"][0]["embedding"]), dtype="<f4")
    assert np.array_equal(decoded, np.asarray(as_float["data"][0]["embedding"], dtype=np.float32))
    assert as_float["object"] == "list"
    assert as_float["data"][0]["object"] == "embedding"


def test_token_input_equals_text_input(client: openai.OpenAI, models: dict[str, Path]) -> None:
    ids = AutoTokenizer.from_pretrained(models["encoder"])("你好 hello")["input_ids"]
    by_text = client.embeddings.create(model="encoder", input="你好 hello").data[0].embedding
    assert client.embeddings.create(model="encoder", input=ids).data[0].embedding == by_text
    two = client.embeddings.create(model="encoder", input=[ids, [5, 6]])
    assert np.allclose(two.data[0].embedding, by_text, atol=1e-5)


def test_two_thousand_inputs_come_back_in_order(client: openai.OpenAI) -> None:
    texts = [f"{number} " * (number % 30 + 1) for number in range(2000)]
    many = client.embeddings.create(model="encoder", input=texts)
    assert len(many.data) == 2000
    for index in (0, 29, 1000, 1999):
        single = client.embeddings.create(model="encoder", input=texts[index]).data[0].embedding
        assert np.allclose(many.data[index].embedding, single, atol=1e-5)


def test_health_needs_no_key_and_says_little(server: ServerProcess) -> None:
    with server.http() as http:
        assert http.get("/health/live").json() == {"status": "live"}
        assert http.get("/health/ready").json() == {"status": "ready"}


def test_openapi_describes_the_bodies(server: ServerProcess) -> None:
    with server.http() as http:
        described = http.get("/openapi.json").json()
    body = described["paths"]["/v1/chat/completions"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert set(body["required"]) == {"model", "messages"}
    assert "$ref" not in str(body)


def test_the_front_loads_no_torch(server: ServerProcess) -> None:
    def resident_megabytes(pid: int) -> float:
        status = Path(f"/proc/{pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024

    front = server.process.pid
    assert "libtorch" not in Path(f"/proc/{front}/maps").read_text()
    assert resident_megabytes(front) < 200
    for engine in server.engine_pids():
        assert "libtorch" in Path(f"/proc/{engine}/maps").read_text()
