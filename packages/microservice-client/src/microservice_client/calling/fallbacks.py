"""What stands in for a service that does not answer: a value, a function, its last good answer."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import httpx

from microservice_client.errors import ServiceCallError
from microservice_governance import Fallback

__all__ = ("AnswerCache", "FallbackAnswer", "fallback_of")

FallbackAnswer = (
    httpx.Response | Callable[[ServiceCallError], httpx.Response | Awaitable[httpx.Response]]
)
"""A response, or a function of the error that gives one; a coroutine function will do."""

_MOST_ANSWERS = 256
_LONGEST = 65_536  # bytes
# Headers that differ from call to call and say nothing of what is asked for, or who asks.
_OF_THE_CALL = frozenset(
    {"traceparent", "tracestate", "baggage", "b3", "x-request-id", "grpc-timeout", "user-agent"}
)
_Key = tuple[str, str, frozenset[tuple[str, str]]]


def fallback_of(answer: FallbackAnswer) -> Fallback:
    """The policy that gives the answer in the place of a `ServiceCallError`."""
    if isinstance(answer, httpx.Response):
        # Each caller gets a response of its own to read, close and change.
        answer.read()
        return Fallback(lambda _: copied(answer), on=ServiceCallError)
    return Fallback(answer, on=ServiceCallError)


def copied(response: httpx.Response) -> httpx.Response:
    """The same response once more, for a response that was read."""
    headers = [
        pair
        for pair in response.headers.raw
        if pair[0].lower() not in {b"content-encoding", b"content-length", b"transfer-encoding"}
    ]
    return httpx.Response(response.status_code, headers=headers, content=response.content)


@dataclass(frozen=True, slots=True)
class _Kept:
    response: httpx.Response
    at: float


class AnswerCache:
    """The last good answers to GET requests, by URL and by what the headers say of who asks.

    Bounded: 256 answers of 64 KiB. What is marked `no-store` or `private` is not kept.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kept: OrderedDict[_Key, _Kept] = OrderedDict()

    def keep(self, service: str, request: httpx.Request, response: httpx.Response) -> None:
        """Keep the answer, if it is one worth keeping; it has to be read."""
        allowed = response.headers.get("cache-control", "").lower()
        if (
            request.method != "GET"
            or not response.is_success
            or len(response.content) > _LONGEST
            or "no-store" in allowed
            or "private" in allowed
        ):
            return
        key = _key(service, request)
        self._kept[key] = _Kept(copied(response), self._clock())
        self._kept.move_to_end(key)
        if len(self._kept) > _MOST_ANSWERS:
            self._kept.popitem(last=False)

    def find(
        self, service: str, request: httpx.Request, max_age_seconds: float
    ) -> httpx.Response | None:
        """A copy of the last good answer, with its age in the header `age`; None if too old."""
        kept = self._kept.get(_key(service, request))
        if kept is None or (age := self._clock() - kept.at) > max_age_seconds:
            return None
        answer = copied(kept.response)
        answer.headers["age"] = str(int(age))
        answer.headers["warning"] = '110 - "Response is Stale"'
        answer.request = request
        return answer


def _key(service: str, request: httpx.Request) -> _Key:
    asked = frozenset(pair for pair in request.headers.items() if pair[0] not in _OF_THE_CALL)
    return (service, str(request.url), asked)
