"""Interceptors for what most teams need: handing headers on, logs, changed answers, own errors."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import httpx

from microservice_client.calling.recent_calls import shown_path

from .chain import AfterResult, FailedResult, Interceptor

__all__ = (
    "CallLog",
    "ErrorMapping",
    "HeaderForwarding",
    "ResponseTransform",
    "TraceContextForwarding",
    "UserInfoForwarding",
    "inbound_headers",
)

_inbound: ContextVar[Mapping[str, str]] = ContextVar("microservice_inbound_headers")

REDACTED = frozenset(
    {"authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key", "accesstoken"}
)
_SECRET_PARTS = ("token", "secret", "password", "credential", "authorization", "api-key")
_LONGEST_VALUE = 100
_MOST_HEADERS = 30


@contextmanager
def inbound_headers(headers: Mapping[str, str]) -> Iterator[None]:
    """The headers of the request being served, for those interceptors that hand some on.

    Follows the context: tasks that are started inside see them too. Names are compared without
    regard to case.
    """
    token = _inbound.set({name.lower(): value for name, value in headers.items()})
    try:
        yield
    finally:
        _inbound.reset(token)


class HeaderForwarding(Interceptor):
    """Hand these headers of the request being served on to the services it calls.

    What the caller has set itself stays. Names that end in `*` stand for all that begin so.
    """

    def __init__(self, names: Sequence[str]) -> None:
        lowered = [name.lower() for name in names]
        self._names = frozenset(name for name in lowered if not name.endswith("*"))
        self._prefixes = tuple(name[:-1] for name in lowered if name.endswith("*"))

    def before(self, request: httpx.Request) -> None:
        """Add what is not there yet."""
        for name, value in _inbound.get({}).items():
            if name in self._names or (self._prefixes and name.startswith(self._prefixes)):
                request.headers.setdefault(name, value)


class UserInfoForwarding(HeaderForwarding):
    """Hand on who the user is: `authorization`, `x-user-*`, `x-tenant-id`, `x-request-id`."""

    def __init__(
        self, names: Sequence[str] = ("authorization", "x-user-*", "x-tenant-id", "x-request-id")
    ) -> None:
        super().__init__(names)


class TraceContextForwarding(HeaderForwarding):
    """Hand the trace on where no OpenTelemetry SDK does it: W3C's and B3's headers.

    Source: W3C Trace Context, W3C Baggage; B3 propagation.
    """

    def __init__(self) -> None:
        super().__init__(("traceparent", "tracestate", "baggage", "b3", "x-b3-*"))


class CallLog(Interceptor):
    """One line per call; credentials are never in it, and nothing in it is longer than it may be.

    Args:
        logger: where to; by default `microservice_client.calls`.
        level: of the line for an answer below 500; errors are warnings.
        headers: log the request's headers as well.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        logger: logging.Logger | None = None,
        *,
        level: int = logging.INFO,
        headers: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._logger = logger or logging.getLogger("microservice_client.calls")
        self._level = level
        self._headers = headers
        self._clock = clock

    def before(self, request: httpx.Request) -> None:
        """Note when it began."""
        request.extensions["call_log_began"] = self._clock()

    def after(self, request: httpx.Request, response: httpx.Response) -> None:
        """One line."""
        level = self._level if response.status_code < 500 else logging.WARNING
        self._logger.log(level, "%s -> %d in %s", *self._told(request, response.status_code))

    def failed(self, request: httpx.Request, error: Exception) -> None:
        """One line."""
        self._logger.warning("%s -> %s in %s", *self._told(request, type(error).__name__))

    def _told(self, request: httpx.Request, outcome: object) -> tuple[object, ...]:
        began = request.extensions.get("call_log_began")
        took = f"{(self._clock() - began) * 1000:.1f} ms" if began is not None else "?"
        name = request.extensions.get("service_name", request.url.host)
        line = f"{request.method} {name} {shown_path(request.url.path)}"
        return (f"{line} {redacted(request.headers)}" if self._headers else line), outcome, took


def redacted(headers: Mapping[str, str]) -> dict[str, str]:
    """Headers fit for a log: bounded, and those that hold credentials are hidden."""
    return {
        name: "***" if _is_secret(name.lower()) else value[:_LONGEST_VALUE]
        for name, value in list(headers.items())[:_MOST_HEADERS]
    }


def _is_secret(name: str) -> bool:
    return name in REDACTED or any(part in name for part in _SECRET_PARTS)


class ResponseTransform(Interceptor):
    """Give every response, read, to a function; what it returns takes its place."""

    def __init__(self, transform: Callable[[httpx.Response], httpx.Response | None]) -> None:
        self._transform = transform

    async def after(self, request: httpx.Request, response: httpx.Response) -> AfterResult:
        """Read and transform it."""
        await response.aread()
        return self._transform(response)


class ErrorMapping(Interceptor):
    """Give every error to a function; the error it returns is raised in its place."""

    def __init__(self, mapping: Callable[[Exception], Exception | httpx.Response | None]) -> None:
        self._mapping = mapping

    def failed(self, request: httpx.Request, error: Exception) -> FailedResult:
        """Map it."""
        return self._mapping(error)
