"""How much may be asked at once: per API key in requests, per model in sequences and tokens."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator

from ..config import Limits
from ..errors import ApiError, bad_request, overloaded
from .keys import ApiKey


class _Use:
    """What one key does now: requests under way, and how many more it may begin (a bucket that fills steadily)."""

    def __init__(self, allowance: float, now: float) -> None:
        self.running = 0
        self.allowance = allowance
        self.filled = now


class KeyLimits:
    """Requests per minute and at once for every key: its own limits, else the configured ones, else none."""

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._clock = clock
        self._uses: dict[str, _Use] = {}

    @contextlib.contextmanager
    def admit(self, key: ApiKey) -> Iterator[None]:
        """Count one request from its beginning to its end. ApiError 429 when it is one too many."""
        rate = key.requests_per_minute or self._limits.key_requests_per_minute
        most = key.concurrency or self._limits.key_concurrency
        now = self._clock()
        use = self._uses.setdefault(key.id, _Use(rate or 0, now))
        if most is not None and use.running >= most:
            raise _too_many(f"{use.running} requests of this API key are running, which is its limit.", 1)
        if rate is not None:
            use.allowance = min(rate, use.allowance + (now - use.filled) * rate / 60)
            use.filled = now
            if use.allowance < 1:
                wait = math.ceil((1 - use.allowance) * 60 / rate)
                raise _too_many(f"This API key may begin {rate} requests per minute; the next one in {wait} s.", wait)
            use.allowance -= 1
        use.running += 1
        try:
            yield
        finally:
            use.running -= 1


def _too_many(message: str, retry_after: int) -> ApiError:
    return ApiError(429, message, code="rate_limit_exceeded", kind="rate_limit_error", retry_after=retry_after)


class Places:
    """The places of one model: sequences, and the tokens they may come to. Beyond them requests are refused.

    Sequences: what runs at once and max_queue more. Tokens (prompt and longest answer of each): what runs at once and
    max_queue_tokens more, by default as many as eight full batches. `refused` is told why a request was refused.
    """

    def __init__(self, limits: Limits, refused: Callable[[str], None]) -> None:
        self._limits = limits
        self._refused = refused
        self.sequences = 0
        self.tokens = 0

    def take(self, count: int, slots: int) -> None:
        """Places for `count` sequences. ApiError 429 when there are none, 400 when there can never be so many."""
        room = slots + self._limits.max_queue
        if count > room:
            raise bad_request(f"Invalid value for 'n': at most {room} here.", "n")
        if self.sequences + count > room:
            self._refused("max_num_queued_reqs")
            raise overloaded(self.sequences)
        self.sequences += count

    def take_tokens(self, count: int, batch: int) -> None:
        """Places for `count` tokens where a full batch holds `batch`. A request that is alone is always taken."""
        queue = self._limits.max_queue_tokens
        room = batch + (8 * batch if queue is None else queue)
        if self.tokens and self.tokens + count > room:
            self._refused("max_num_queued_tokens")
            raise overloaded(self.sequences)
        self.tokens += count

    def leave(self, sequences: int, tokens: int = 0) -> None:
        self.sequences -= sequences
        self.tokens -= tokens
