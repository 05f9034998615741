"""Every refusal is OpenAI-shaped, names what is wrong, and says whether trying again helps."""

from __future__ import annotations

from typing import Any

import httpx2
import openai
import pytest

from tests.app.support.server import ServerProcess

CHAT = "/v1/chat/completions"
MESSAGES = [{"role": "user", "content": "hi"}]
GOOD = {"model": "llama", "messages": MESSAGES, "max_tokens": 2}


def error_of(response: httpx2.Response) -> dict[str, Any]:
    error: dict[str, Any] = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert isinstance(error["message"], str) and error["message"]
    assert isinstance(error["code"], str), "codes are strings"
    assert response.headers["x-should-retry"] in ("true", "false")
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-request-id"]
    return error


@pytest.fixture(scope="module")
def http(server: ServerProcess) -> httpx2.Client:
    return server.http()


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code", "param"),
    [
        ("POST", CHAT, {**GOOD, "model": "gpt-4o"}, 404, "model_not_found", "model"),
        ("POST", CHAT, {**GOOD, "model": "encoder"}, 400, "model_not_supported", "model"),
        ("POST", CHAT, {**GOOD, "messages": []}, 400, "invalid_value", "messages"),
        ("POST", CHAT, {**GOOD, "temperature": 9}, 400, "invalid_value", "temperature"),
        ("POST", CHAT, {**GOOD, "tools": [{}]}, 400, "missing_required_parameter", "tools[0].type"),
        ("POST", CHAT, {**GOOD, "colour": "red"}, 400, "unknown_parameter", "colour"),
        ("POST", CHAT, {**GOOD, "max_tokens": 100_000}, 400, "context_length_exceeded", "messages"),
        ("POST", CHAT, {**GOOD, "n": 128}, 400, "invalid_value", "n"),
        (
            "POST",
            CHAT,
            {**GOOD, "messages": [{"role": "user", "content": "refuse me"}]},
            400,
            "invalid_value",
            "messages",
        ),
        ("POST", "/v1/embeddings", {"model": "encoder", "input": [400]}, 400, "invalid_value", "input"),
        ("POST", "/v1/embeddings", {"model": "encoder", "input": [7] * 513}, 400, "context_length_exceeded", "input"),
        ("POST", "/v1/embeddings", {"model": "nobody", "input": "x"}, 404, "model_not_found", "model"),
        ("GET", "/v1/models/nobody", None, 404, "model_not_found", "model"),
        ("GET", "/v1/nothing", None, 404, "not_found", None),
        ("GET", "/", None, 404, "not_found", None),
        ("GET", "/docs", None, 404, "not_found", None),
        ("GET", CHAT, None, 405, "method_not_allowed", None),
        ("DELETE", "/v1/models", None, 405, "method_not_allowed", None),
    ],
)
def test_refusals_have_the_shape_the_status_and_the_name(
    http: httpx2.Client, method: str, path: str, body: Any, status: int, code: str, param: str | None
) -> None:
    response = http.request(method, path, json=body)
    error = error_of(response)
    assert (response.status_code, error["code"], error["param"]) == (status, code, param)
    assert response.headers["x-should-retry"] == "false"


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"null"])
def test_bad_bodies_are_400(http: httpx2.Client, body: bytes) -> None:
    response = http.post(CHAT, content=body, headers={"content-type": "application/json"})
    assert response.status_code == 400
    error_of(response)


def test_other_content_types_are_415(http: httpx2.Client) -> None:
    """A web page can send text/plain to a service on this machine without asking; JSON it cannot."""
    response = http.post(CHAT, content=b"{}", headers={"content-type": "text/plain"})
    assert (response.status_code, error_of(response)["code"]) == (415, "unsupported_media_type")


def test_a_prompt_longer_than_the_context_gets_the_known_sentence(server: ServerProcess) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        server.openai().chat.completions.create(
            model="llama", messages=[{"role": "user", "content": "fox " * 600}], max_tokens=5
        )
    assert refused.value.code == "context_length_exceeded"
    assert refused.value.param == "messages"
    assert "This model's maximum context length is 512 tokens. However, you" in refused.value.message
    assert refused.value.type == "invalid_request_error"


def test_a_body_over_the_limit_is_413_announced_or_not(http: httpx2.Client) -> None:
    large = b"x" * (8 * 1024 * 1024 + 1)
    headers = {"content-type": "application/json"}
    announced = http.post(CHAT, content=large, headers=headers)
    chunked = http.post(CHAT, content=(large[at : at + 65536] for at in range(0, len(large), 65536)), headers=headers)
    for response in (announced, chunked):
        assert (response.status_code, error_of(response)["code"]) == (413, "request_too_large")
    assert http.get("/health/live").status_code == 200


def test_request_ids_come_back_and_are_made_up_when_missing(http: httpx2.Client, server: ServerProcess) -> None:
    given = http.get("/v1/models", headers={"x-request-id": "mine-42"})
    assert given.headers["x-request-id"] == "mine-42"
    made = {http.get("/v1/models").headers["x-request-id"] for _ in range(3)}
    assert len(made) == 3
    hostile = http.get("/health/live", headers={"x-request-id": "x" * 300})
    assert hostile.headers["x-request-id"].startswith("req_")
    assert {"mine-42", *made} <= {line["request_id"] for line in server.events("request")}


def test_the_same_request_id_twice_at_once_is_two_requests(server: ServerProcess) -> None:
    from concurrent.futures import ThreadPoolExecutor

    client = server.openai(default_headers={"x-request-id": "same"})
    with ThreadPoolExecutor(4) as pool:
        ask = lambda _: client.chat.completions.create(**GOOD).id  # noqa: E731
        assert len(set(pool.map(ask, range(8)))) == 8


def test_refusals_do_not_disturb_others(server: ServerProcess, http: httpx2.Client) -> None:
    def answer() -> str | None:
        completion = server.openai().chat.completions.create(**{**GOOD, "temperature": 0, "max_tokens": 30})
        return completion.choices[0].message.content

    before = answer()
    for body in ({**GOOD, "n": 10_000}, {**GOOD, "max_tokens": -1}, {"model": "encoder", "input": [10**9]}):
        assert http.post(CHAT if "messages" in body else "/v1/embeddings", json=body).status_code == 400
    assert answer() == before
    assert len(server.engine_pids()) == 2
