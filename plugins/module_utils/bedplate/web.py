"""Asking web servers for listings and files: redirects seen, tokens kept at home, patience where a server asks for it.

A token goes to the address it is for and to no other: a Hub sends its large files to a content network, with an address that
is signed by itself. Proxies and certificates are those of the environment. Runs on both sides: standard library only, Python
3.9 or newer.
"""

from __future__ import annotations

import email.utils
import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin, urlsplit

TIMEOUT_S = 30
# Answers that mean "later": too many requests, and a server that is busy or restarting.
LATER = (408, 425, 429, 500, 502, 503, 504)
TRIES = 6
LONGEST_WAIT_S = 60.0
REDIRECTS = 8


class WebError(Exception):
    """An address does not give what was asked. `status` is the HTTP status, 0 without an answer."""

    def __init__(self, url: str, status: int, reason: str, code: str = "") -> None:
        self.url, self.status, self.reason, self.code = bare(url), status, reason, code
        super().__init__(f"{self.url}: {f'HTTP {status} ' if status else ''}{code or reason}".strip())


@dataclass(frozen=True)
class Place:
    """Where a file's bytes really are: the last address of its redirects, and its size when that server tells it.

    `direct` is true when the first host gives the bytes itself, so that a token for it is needed there too.
    """

    url: str
    size: int | None
    direct: bool
    headers: Mapping[str, str]


class _Stay(urllib.request.HTTPRedirectHandler):
    """Redirects are followed by `opened`, which knows where a token may go."""

    def redirect_request(self, *_: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_Stay)


def bare(url: str) -> str:
    """An address as it may be shown: without its query, which may be a signature, and without a password."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def waiting(error: urllib.error.HTTPError, attempt: int) -> float:
    """Seconds to wait before asking again: what Retry-After says, else longer from time to time."""
    asked = error.headers.get("Retry-After", "") if error.headers else ""
    if asked.isdigit():
        return min(float(asked), LONGEST_WAIT_S)
    if asked:
        try:
            seconds = email.utils.parsedate_to_datetime(asked).timestamp() - time.time()
            return min(max(seconds, 0.0), LONGEST_WAIT_S)
        except (TypeError, ValueError):
            pass
    return min(0.5 * 2.0**attempt, LONGEST_WAIT_S)


@contextmanager
def opened(
    url: str,
    token: str = "",
    headers: Mapping[str, str] | None = None,
    *,
    tries: int = TRIES,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[tuple[http.client.HTTPResponse, str]]:
    """The answer to a GET, and the address that gave it. Follows redirects; the token stays at the first host.

    Raises WebError when there is no good answer, after `tries` attempts for answers that mean "later".
    """
    answer, address = _ask(url, token, dict(headers or {}), tries, sleep)
    with answer:
        yield answer, address


def _ask(
    url: str, token: str, headers: dict[str, str], tries: int, sleep: Callable[[float], None]
) -> tuple[http.client.HTTPResponse, str]:
    home = urlsplit(url).netloc
    for attempt in range(tries):
        address, status = url, 0
        try:
            for _ in range(REDIRECTS):
                own = {"Authorization": f"Bearer {token}"} if token and urlsplit(address).netloc == home else {}
                request = urllib.request.Request(address, headers={"User-Agent": "bedplate", **headers, **own})
                try:
                    return _OPENER.open(request, timeout=TIMEOUT_S), address
                except urllib.error.HTTPError as error:
                    with error:
                        status = error.code
                        if status not in (301, 302, 303, 307, 308):
                            raise
                        address = urljoin(address, error.headers["Location"])
            raise WebError(url, status, "too many redirects")
        except urllib.error.HTTPError as error:
            last = attempt == tries - 1
            if error.code not in LATER or last:
                raise WebError(address, error.code, str(error.reason), error.headers.get("X-Error-Code", "")) from None
            sleep(waiting(error, attempt))
        except (OSError, http.client.HTTPException) as error:
            if attempt == tries - 1:
                raise WebError(address, 0, str(getattr(error, "reason", error)) or type(error).__name__) from None
            sleep(min(0.5 * 2**attempt, LONGEST_WAIT_S))
    raise WebError(url, 0, "no attempt")


def read(url: str, token: str = "", start: int = 0, length: int | None = None, *, tries: int = TRIES) -> bytes:
    """The bytes an address gives; from `start` on and at most `length` of them when asked so (a range request)."""
    wanted = (
        {}
        if not start and length is None
        else {"Range": f"bytes={start}-{'' if length is None else start + length - 1}"}
    )
    with opened(url, token, wanted, tries=tries) as (answer, address):
        try:
            if wanted and answer.status == 200:
                # This server knows no ranges.
                answer.read(start)
            return answer.read() if length is None else answer.read(length)
        except (OSError, http.client.HTTPException) as error:
            raise WebError(address, 0, f"cut: {error}") from None


def place_of(url: str, token: str = "", *, tries: int = TRIES) -> Place:
    """Follow an address to where its bytes are; costs one byte."""
    with opened(url, token, {"Range": "bytes=0-0"}, tries=tries) as (answer, address):
        total = answer.headers.get("Content-Range", "").rpartition("/")[2] if answer.status == 206 else ""
        size = total or (answer.headers.get("Content-Length", "") if answer.status == 200 else "")
        return Place(
            url=address,
            size=int(size) if size.isdigit() else None,
            direct=urlsplit(address).netloc == urlsplit(url).netloc,
            headers=dict(answer.headers.items()),
        )
