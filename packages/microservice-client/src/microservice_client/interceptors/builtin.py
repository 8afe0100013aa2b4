"""Interceptors for common needs: forwarded headers, logs, changed responses, mapped errors."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import httpx

from microservice_client.telemetry.attributes import escape_controls, shorten_path

from .chain import ErrorResult, Interceptor, ResponseResult

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

_SECRET_HEADERS = frozenset(
    {"authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key", "accesstoken"}
)
_SECRET_PARTS = ("token", "secret", "password", "credential", "authorization", "api-key")
_MAX_VALUE_LENGTH = 100
_MAX_HEADERS = 30


@contextmanager
def inbound_headers(headers: Mapping[str, str]) -> Iterator[None]:
    """Declare the headers of the request that is being served, for `HeaderForwarding`.

    Tasks that are started inside the block see them, too. Names are compared without regard to
    case.
    """
    token = _inbound.set({name.lower(): value for name, value in headers.items()})
    try:
        yield
    finally:
        _inbound.reset(token)


class HeaderForwarding(Interceptor):
    """Copy headers of the request that is being served to the requests it makes.

    A header that the caller has set itself is not replaced.

    Args:
        names: the headers; a name that ends in `*` is a prefix.
    """

    def __init__(self, names: Sequence[str]) -> None:
        lowered = [name.lower() for name in names]
        self._names = frozenset(name for name in lowered if not name.endswith("*"))
        self._prefixes = tuple(name[:-1] for name in lowered if name.endswith("*"))

    def on_request(self, request: httpx.Request) -> None:
        """Add the headers that are not set."""
        for name, value in _inbound.get({}).items():
            if name in self._names or (self._prefixes and name.startswith(self._prefixes)):
                request.headers.setdefault(name, value)


class UserInfoForwarding(HeaderForwarding):
    """Forward the user: `authorization`, `x-user-*`, `x-tenant-id`, `x-request-id`."""

    def __init__(
        self, names: Sequence[str] = ("authorization", "x-user-*", "x-tenant-id", "x-request-id")
    ) -> None:
        super().__init__(names)


class TraceContextForwarding(HeaderForwarding):
    """Forward the trace headers of W3C and B3, for a process without an OpenTelemetry SDK.

    Source: W3C Trace Context, W3C Baggage; B3 propagation.
    """

    def __init__(self) -> None:
        super().__init__(("traceparent", "tracestate", "baggage", "b3", "x-b3-*"))


class CallLog(Interceptor):
    """One log line per call, without credentials, bounded in length, control characters escaped.

    Args:
        logger: by default `microservice_client.calls`.
        level: level of the line for a response below 500; errors are warnings.
        headers: also log the request's headers.
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

    def on_request(self, request: httpx.Request) -> None:
        """Record the start time."""
        request.extensions["call_log_began"] = self._clock()

    def on_response(self, request: httpx.Request, response: httpx.Response) -> None:
        """Log the call with its status."""
        level = self._level if response.status_code < 500 else logging.WARNING
        arguments = self._log_arguments(request, response.status_code)
        self._logger.log(level, "%s -> %d in %s", *arguments)

    def on_error(self, request: httpx.Request, error: Exception) -> None:
        """Log the call with its error's type."""
        arguments = self._log_arguments(request, type(error).__name__)
        self._logger.warning("%s -> %s in %s", *arguments)

    def _log_arguments(self, request: httpx.Request, outcome: object) -> tuple[object, ...]:
        began = request.extensions.get("call_log_began")
        duration = f"{(self._clock() - began) * 1000:.1f} ms" if began is not None else "?"
        name = request.extensions.get("service_name", request.url.host)
        line = f"{request.method} {name} {shorten_path(request.url.path)}"
        if self._headers:
            line = f"{line} {redact_headers(request.headers)}"
        return escape_controls(line), outcome, duration


def redact_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return headers for a log: at most 30, values cut at 100 characters, credentials hidden."""
    return {
        name: "***" if _is_secret(name.lower()) else value[:_MAX_VALUE_LENGTH]
        for name, value in list(headers.items())[:_MAX_HEADERS]
    }


def _is_secret(name: str) -> bool:
    return name in _SECRET_HEADERS or any(part in name for part in _SECRET_PARTS)


class ResponseTransform(Interceptor):
    """Pass every response, its body read, to a function.

    Args:
        transform: returns the response to use in its place, or None to keep it.
    """

    def __init__(self, transform: Callable[[httpx.Response], httpx.Response | None]) -> None:
        self._transform = transform

    async def on_response(self, request: httpx.Request, response: httpx.Response) -> ResponseResult:
        """Read the body and transform the response."""
        await response.aread()
        return self._transform(response)


class ErrorMapping(Interceptor):
    """Pass every error to a function.

    Args:
        mapping: returns the error to raise in its place, a response to return, or None to raise
            the error itself.
    """

    def __init__(self, mapping: Callable[[Exception], Exception | httpx.Response | None]) -> None:
        self._mapping = mapping

    def on_error(self, request: httpx.Request, error: Exception) -> ErrorResult:
        """Map the error."""
        return self._mapping(error)
