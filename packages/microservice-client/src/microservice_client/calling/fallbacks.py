"""Fallbacks: a fixed response, a function, or the last good response in place of a failed call."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import httpx

from microservice_client.call_options import FallbackResponse
from microservice_client.errors import ServiceCallError
from microservice_core import InvalidValueError
from microservice_governance import Fallback

__all__ = ("ResponseCache", "build_fallback", "require_response")

_RULE = "an httpx.Response, or a function that returns one for the error"
_MAX_RESPONSES = 256
_MAX_BODY_BYTES = 65_536
# Headers that differ from call to call without changing what is requested, or by whom.
_IGNORED_HEADERS = frozenset(
    {"traceparent", "tracestate", "baggage", "b3", "x-request-id", "grpc-timeout", "user-agent"}
)
_Key = tuple[str, str, frozenset[tuple[str, str]]]


def build_fallback(response: FallbackResponse) -> Fallback:
    """Return the policy that replaces a `ServiceCallError` by the response.

    Raises:
        InvalidValueError: it is neither a response nor a function.
    """
    if isinstance(response, httpx.Response):
        # Each caller gets its own copy to read, close and change.
        response.read()
        return Fallback(lambda _: copy_response(response), on=ServiceCallError)
    if not callable(response):
        raise InvalidValueError("fallback", type(response).__name__, _RULE)
    return Fallback(response, on=ServiceCallError)


def require_response(result: object) -> httpx.Response:
    """Return what a fallback has returned, if it is a response.

    Raises:
        InvalidValueError: it is none.
    """
    if not isinstance(result, httpx.Response):
        raise InvalidValueError(
            "result of the fallback", type(result).__name__, "an httpx.Response"
        )
    return result


def copy_response(response: httpx.Response) -> httpx.Response:
    """Copy a response whose body was read; the body is decoded, so its encoding is dropped."""
    headers = [
        pair
        for pair in response.headers.raw
        if pair[0].lower() not in {b"content-encoding", b"content-length", b"transfer-encoding"}
    ]
    return httpx.Response(response.status_code, headers=headers, content=response.content)


@dataclass(frozen=True, slots=True)
class _CachedResponse:
    response: httpx.Response
    stored_at: float


class ResponseCache:
    """The last good responses to GET requests, by URL and by the headers that tell users apart.

    Bounded: 256 responses of 64 KiB. A response marked `no-store` or `private` is not stored.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._responses: OrderedDict[_Key, _CachedResponse] = OrderedDict()

    def store(self, service: str, request: httpx.Request, response: httpx.Response) -> None:
        """Store a response whose body was read, unless it is no good one or too large."""
        cache_control = response.headers.get("cache-control", "").lower()
        if (
            request.method != "GET"
            or not response.is_success
            or len(response.content) > _MAX_BODY_BYTES
            or "no-store" in cache_control
            or "private" in cache_control
        ):
            return
        key = _cache_key(service, request)
        self._responses[key] = _CachedResponse(copy_response(response), self._clock())
        self._responses.move_to_end(key)
        if len(self._responses) > _MAX_RESPONSES:
            self._responses.popitem(last=False)

    def find(
        self, service: str, request: httpx.Request, max_age_seconds: float
    ) -> httpx.Response | None:
        """Return a copy of the last good response, its age in the header `age`; None if too old."""
        cached = self._responses.get(_cache_key(service, request))
        if cached is None or (age := self._clock() - cached.stored_at) > max_age_seconds:
            return None
        response = copy_response(cached.response)
        response.headers["age"] = str(int(age))
        response.headers["warning"] = '110 - "Response is Stale"'
        response.request = request
        return response


def _cache_key(service: str, request: httpx.Request) -> _Key:
    headers = frozenset(pair for pair in request.headers.items() if pair[0] not in _IGNORED_HEADERS)
    return (service, str(request.url), headers)
