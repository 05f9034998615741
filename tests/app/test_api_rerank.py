"""Documents come back in the order of their likeness to the query, by a cross-encoder or by vectors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from tests.app.support.server import ServerProcess

QUERY = "What is the capital of France?"
DOCUMENTS = ["hello", "Paris is the capital of France.", "Bread is baked in an oven.", "France borders Spain."]


@pytest.fixture(scope="module")
def http(vectors_server: ServerProcess) -> httpx2.Client:
    return vectors_server.http()


def ranked(http: httpx2.Client, **fields: Any) -> dict[str, Any]:
    response = http.post("/v1/rerank", json={"query": QUERY, "documents": DOCUMENTS, **fields})
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def test_an_embedding_model_ranks_by_likeness(http: httpx2.Client) -> None:
    answer = ranked(http, model="minilm", return_documents=True)
    results = answer["results"]
    assert [result["index"] for result in results][:2] == [1, 3]
    assert results[0]["document"] == {"text": DOCUMENTS[1]}
    scores = [result["relevance_score"] for result in results]
    assert scores == sorted(scores, reverse=True)
    rows = http.post("/v1/embeddings", json={"model": "minilm", "input": [QUERY, DOCUMENTS[1]]}).json()["data"]
    assert np.isclose(scores[0], np.dot(rows[0]["embedding"], rows[1]["embedding"]), atol=1e-5)
    assert answer["model"] == "minilm"
    assert answer["usage"]["total_tokens"] > 20


def test_a_cross_encoder_scores_the_pair(http: httpx2.Client, models: dict[str, Path]) -> None:
    words = AutoTokenizer.from_pretrained(models["reranker"])
    model = AutoModelForSequenceClassification.from_pretrained(models["reranker"], dtype=torch.float32)
    results = ranked(http, model="reranker")["results"]
    assert {result["index"] for result in results} == {0, 1, 2, 3}
    for result in results:
        inputs = words(QUERY, DOCUMENTS[result["index"]], return_tensors="pt", return_token_type_ids=True)
        assert inputs["token_type_ids"].sum() > 0
        with torch.inference_mode():
            wanted = model(**inputs).logits.sigmoid().item()
        assert np.isclose(result["relevance_score"], wanted, atol=1e-5)
    assert "document" not in results[0]


def test_only_as_many_as_asked_for_and_objects_as_documents(http: httpx2.Client) -> None:
    documents = [{"text": text} for text in DOCUMENTS]
    results = ranked(http, model="minilm", documents=documents, top_n=1, return_documents=True)["results"]
    assert [result["document"]["text"] for result in results] == [DOCUMENTS[1]]


def test_long_documents_are_cut_and_long_queries_refused(http: httpx2.Client) -> None:
    for model in ("minilm", "reranker"):
        assert len(ranked(http, model=model, documents=["word " * 3000, "short"])["results"]) == 2
        refused = http.post("/v1/rerank", json={"model": model, "query": "word " * 3000, "documents": ["x"]})
        error = refused.json()["error"]
        assert (refused.status_code, error["code"], error["param"]) == (400, "context_length_exceeded", "query")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"documents": []}, "documents"),
        ({"documents": [""]}, "documents[0]"),
        ({"documents": [{"title": "x"}]}, "documents[0]"),
        ({"documents": "x"}, "documents"),
        ({"documents": ["x"] * 1001}, "documents"),
        ({"query": ""}, "query"),
        ({"query": None}, "query"),
        ({"top_n": 0}, "top_n"),
        ({"rank_fields": ["a"]}, "rank_fields"),
    ],
)
def test_what_is_not_served_is_refused_by_name(http: httpx2.Client, fields: dict[str, Any], param: str) -> None:
    body = {"model": "minilm", "query": QUERY, "documents": DOCUMENTS, **fields}
    response = http.post("/v1/rerank", json=body)
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)


def test_a_reranker_does_nothing_else(http: httpx2.Client) -> None:
    for path, body in (
        ("/v1/embeddings", {"model": "reranker", "input": "x"}),
        ("/v1/chat/completions", {"model": "reranker", "messages": [{"role": "user", "content": "x"}]}),
    ):
        response = http.post(path, json=body)
        assert (response.status_code, response.json()["error"]["code"]) == (400, "model_not_supported")
