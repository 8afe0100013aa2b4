"""Interceptors: observe or change each request and response, answer a request, or resend it.

They run around the whole call with its attempts and policies. The first interceptor gets the
request first and the response last. A plain callable is an interceptor of requests.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import httpx

__all__ = (
    "ErrorResult",
    "Interceptor",
    "RequestInterceptor",
    "RequestResult",
    "ResendRequest",
    "ResponseResult",
    "build_chain",
    "send_through",
)

ResultT = TypeVar("ResultT")
Send = Callable[[httpx.Request], Awaitable[httpx.Response]]

_MAX_ROUNDS = 3


@dataclass(frozen=True, slots=True)
class ResendRequest:
    """Return it from `Interceptor.on_response` to send the request again; at most twice.

    The request has to have a body that can be sent again, not a stream.

    Attributes:
        after_seconds: how long to wait before.
    """

    after_seconds: float = 0.0


RequestResult = httpx.Request | httpx.Response | None
ResponseResult = httpx.Response | ResendRequest | None
ErrorResult = httpx.Response | Exception | None

RequestInterceptor = Callable[[httpx.Request], RequestResult | Awaitable[RequestResult]]
"""Called with each request; its result has the meaning of that of `Interceptor.on_request`."""


class Interceptor:
    """Base class of interceptors: override the methods you need; each may be plain or async."""

    def on_request(self, request: httpx.Request) -> RequestResult | Awaitable[RequestResult]:
        """Called before the call.

        Returns:
            None to continue, a request to send in its place, or a response that answers it.
        """
        return None

    def on_response(
        self, request: httpx.Request, response: httpx.Response
    ) -> ResponseResult | Awaitable[ResponseResult]:
        """Called with the response, its body unread.

        Returns:
            None to return the response, another response, or `ResendRequest` to send it again.
        """
        return None

    def on_error(
        self, request: httpx.Request, error: Exception
    ) -> ErrorResult | Awaitable[ErrorResult]:
        """Called with the error of a failed call.

        Returns:
            None to raise the error, another error to raise, or a response to return.
        """
        return None


class _OnRequest(Interceptor):
    """A plain callable as an interceptor."""

    def __init__(self, intercept: RequestInterceptor) -> None:
        self._intercept = intercept

    def on_request(self, request: httpx.Request) -> RequestResult | Awaitable[RequestResult]:
        return self._intercept(request)


def build_chain(*lists: Sequence[Interceptor | RequestInterceptor]) -> tuple[Interceptor, ...]:
    """Return the interceptors of all lists, in order."""
    return tuple(
        item if isinstance(item, Interceptor) else _OnRequest(item)
        for items in lists
        for item in items
    )


async def send_through(
    interceptors: tuple[Interceptor, ...], request: httpx.Request, send: Send
) -> httpx.Response:
    """Send the request through the interceptors, the first one outermost."""
    if not interceptors:
        return await send(request)
    first, rest = interceptors[0], interceptors[1:]
    for round_number in range(1, _MAX_ROUNDS + 1):
        # In every round, so that `on_request` can change what is sent again, e.g. renew a token.
        result = await _await_if_needed(first.on_request(request))
        if isinstance(result, httpx.Response):
            result.request = request
            return result
        request = result or request
        try:
            response = await send_through(rest, request, send)
        except Exception as error:  # noqa: BLE001 - the interceptor decides how to handle it
            return await _intercept_error(first, request, error)
        outcome = await _intercept_response(first, request, response)
        if not isinstance(outcome, ResendRequest):
            return outcome
        if round_number == _MAX_ROUNDS or not _is_replayable(request):
            return response
        await response.aclose()
        if outcome.after_seconds > 0:
            await asyncio.sleep(outcome.after_seconds)
    raise AssertionError("the last round returns")  # pragma: no cover


def _is_replayable(request: httpx.Request) -> bool:
    return isinstance(request.stream, httpx.ByteStream) or getattr(
        request.stream, "replayable", False
    )


async def _intercept_response(
    interceptor: Interceptor, request: httpx.Request, response: httpx.Response
) -> httpx.Response | ResendRequest:
    try:
        result = await _await_if_needed(interceptor.on_response(request, response))
    except BaseException:
        await response.aclose()
        raise
    if result is None or result is response:
        return response
    if isinstance(result, httpx.Response):
        result.request = request
        await response.aclose()
    return result


async def _intercept_error(
    interceptor: Interceptor, request: httpx.Request, error: Exception
) -> httpx.Response:
    result = await _await_if_needed(interceptor.on_error(request, error))
    if result is None or result is error:
        raise error
    if isinstance(result, httpx.Response):
        result.request = request
        return result
    raise result from error


async def _await_if_needed(result: ResultT | Awaitable[ResultT]) -> ResultT:
    if inspect.isawaitable(result):
        return await result
    return result
