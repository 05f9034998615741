"""Limits per key and places per model, as plain objects; served, they are in test_api_limits.py."""

from __future__ import annotations

import pytest
from bedplate_server.config import Limits
from bedplate_server.errors import ApiError
from bedplate_server.front.keys import ApiKey
from bedplate_server.front.limits import KeyLimits, Places

MINE, YOURS = (ApiKey(id=name, sha256="0" * 64) for name in ("mine", "yours"))


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def begin(limits: KeyLimits, key: ApiKey) -> int:
    """0 for a request that was let in (and ended at once), else the seconds it is to wait."""
    try:
        with limits.admit(key):
            return 0
    except ApiError as error:
        assert error.status_code == 429 and error.payload["error"]["code"] == "rate_limit_exceeded"
        return int((error.headers or {})["retry-after"])


def test_a_key_begins_so_many_requests_per_minute_and_no_more() -> None:
    clock = Clock()
    limits = KeyLimits(Limits(key_requests_per_minute=6), clock)
    assert [begin(limits, MINE) for _ in range(7)] == [0] * 6 + [10]
    assert begin(limits, YOURS) == 0, "one key's requests are not another's"
    clock.now += 9.9
    assert begin(limits, MINE) == 1
    clock.now += 0.2
    assert [begin(limits, MINE) for _ in range(2)] == [0, 10]
    clock.now += 3600
    assert [begin(limits, MINE) for _ in range(7)].count(0) == 6, "an hour of silence saves up no more than a minute"


def test_a_key_has_so_many_requests_at_once() -> None:
    limits = KeyLimits(Limits(key_concurrency=2))
    with limits.admit(MINE), limits.admit(MINE):
        assert begin(limits, MINE) == 1
        assert begin(limits, YOURS) == 0
    assert begin(limits, MINE) == 0


def test_a_keys_own_limits_go_before_the_configured_ones() -> None:
    limits = KeyLimits(Limits(key_requests_per_minute=1, key_concurrency=1))
    key = MINE.model_copy(update={"requests_per_minute": 2, "concurrency": 2})
    with limits.admit(key), limits.admit(key):
        assert begin(limits, key) == 1
    assert begin(limits, key) == 30


def test_without_limits_nothing_is_counted_out() -> None:
    limits = KeyLimits(Limits())
    assert {begin(limits, MINE) for _ in range(1000)} == {0}


def test_places_are_bounded_by_sequences_and_given_back() -> None:
    refused: list[str] = []
    places = Places(Limits(max_queue=3), refused.append)
    places.take(5, slots=2)
    with pytest.raises(ApiError, match="overloaded"):
        places.take(1, slots=2)
    with pytest.raises(ApiError, match="at most 5"):
        places.take(6, slots=2)
    places.leave(2)
    places.take(2, slots=2)
    assert (places.sequences, refused) == (5, ["max_num_queued_reqs"])


def test_places_are_bounded_by_tokens_but_one_long_request_alone_is_served() -> None:
    places = Places(Limits(max_queue_tokens=100), lambda reason: None)
    places.take_tokens(5000, batch=1000)
    with pytest.raises(ApiError) as refused:
        places.take_tokens(1, batch=1000)
    assert refused.value.status_code == 429
    places.leave(0, 5000)
    places.take_tokens(1000, batch=1000)
    places.take_tokens(100, batch=1000)
    assert places.tokens == 1100
