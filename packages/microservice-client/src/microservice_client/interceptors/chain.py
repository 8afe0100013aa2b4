"""Interceptors: see each request and response on the way, change them, answer, or send again.

They stand around the whole call, attempts and policies included: the first sees the request first
and the response last. A plain callable is an interceptor of requests.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import httpx

__all__ = ("Interceptor", "RequestInterceptor", "SendAgain", "through")

ResultT = TypeVar("ResultT")
Send = Callable[[httpx.Request], Awaitable[httpx.Response]]

_MOST_ROUNDS = 3


@dataclass(frozen=True, slots=True)
class SendAgain:
    """What `Interceptor.after` returns to have the request sent once more; three times at most.

    Attributes:
        after_seconds: how long to wait before.
    """

    after_seconds: float = 0.0


BeforeResult = httpx.Request | httpx.Response | None
AfterResult = httpx.Response | SendAgain | None
FailedResult = httpx.Response | Exception | None

RequestInterceptor = Callable[[httpx.Request], BeforeResult | Awaitable[BeforeResult]]
"""Called with each request; what it returns has the meaning of `Interceptor.before`."""


class Interceptor:
    """Override what is needed; each method may be plain or async."""

    def before(self, request: httpx.Request) -> BeforeResult | Awaitable[BeforeResult]:
        """See the request: None lets it pass, a request replaces it, a response answers it."""
        return None

    def after(
        self, request: httpx.Request, response: httpx.Response
    ) -> AfterResult | Awaitable[AfterResult]:
        """See the response, its body unread: None lets it pass, a response replaces it."""
        return None

    def failed(
        self, request: httpx.Request, error: Exception
    ) -> FailedResult | Awaitable[FailedResult]:
        """See the error: None lets it pass, an error replaces it, a response stands in for one."""
        return None


class _BeforeOnly(Interceptor):
    def __init__(self, intercept: RequestInterceptor) -> None:
        self._intercept = intercept

    def before(self, request: httpx.Request) -> BeforeResult | Awaitable[BeforeResult]:
        return self._intercept(request)


def chain(*lists: Sequence[Interceptor | RequestInterceptor]) -> tuple[Interceptor, ...]:
    """All of them, in this order."""
    return tuple(
        one if isinstance(one, Interceptor) else _BeforeOnly(one) for many in lists for one in many
    )


async def through(
    interceptors: tuple[Interceptor, ...], request: httpx.Request, send: Send
) -> httpx.Response:
    """Send the request through the interceptors."""
    if not interceptors:
        return await send(request)
    first, rest = interceptors[0], interceptors[1:]
    for round_number in range(1, _MOST_ROUNDS + 1):
        verdict = await _settled(first.before(request))
        if isinstance(verdict, httpx.Response):
            verdict.request = request
            return verdict
        request = verdict or request
        try:
            response = await through(rest, request, send)
        except Exception as error:  # noqa: BLE001 - the interceptor decides what becomes of it
            return await _after_failure(first, request, error)
        answer = await _verdict(first, request, response)
        if not isinstance(answer, SendAgain):
            return answer
        if round_number == _MOST_ROUNDS or not isinstance(request.stream, httpx.ByteStream):
            return response
        await response.aclose()
        if answer.after_seconds > 0:
            await asyncio.sleep(answer.after_seconds)
    raise AssertionError("the last round returns")  # pragma: no cover


async def _verdict(
    interceptor: Interceptor, request: httpx.Request, response: httpx.Response
) -> httpx.Response | SendAgain:
    try:
        answer = await _settled(interceptor.after(request, response))
    except BaseException:
        await response.aclose()
        raise
    if answer is None or answer is response:
        return response
    if isinstance(answer, httpx.Response):
        answer.request = request
        await response.aclose()
    return answer


async def _after_failure(
    interceptor: Interceptor, request: httpx.Request, error: Exception
) -> httpx.Response:
    answer = await _settled(interceptor.failed(request, error))
    if answer is None or answer is error:
        raise error
    if isinstance(answer, httpx.Response):
        answer.request = request
        return answer
    raise answer from error


async def _settled(result: ResultT | Awaitable[ResultT]) -> ResultT:
    if inspect.isawaitable(result):
        return await result
    return result
