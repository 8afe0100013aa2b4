"""Responses to the toolkit's errors that a handler lets out: 429, 502, 503 and 504.

Each is a problem document (https://www.rfc-editor.org/rfc/rfc9457) with a fixed text: the error's own
text, which may name addresses, goes to the log.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import NamedTuple

from microservice_core import MicroserviceError, parse_retry_after
from microservice_kit.asgi_types import Send

from .responses import send_json

__all__ = ("ErrorResponses",)

logger = logging.getLogger(__name__)

_LOGGED_EVERY_SECONDS = 60.0
_DEFAULT_RETRY_AFTER_SECONDS = 1.0
_MAX_RETRY_AFTER_SECONDS = 3600.0


class _Reply(NamedTuple):
    status: int
    detail: str


_NO_INSTANCE = _Reply(503, "no instance of a service that is needed can be called now")
_REFUSED = _Reply(503, "too much is going on now; try again later")
_UNREACHABLE = _Reply(503, "a server that is needed cannot be reached now")
_STOPPING = _Reply(503, "this service is stopping")
_LIMITED = _Reply(429, "too many requests; try again later")
_FAILED = _Reply(502, "a service that is needed failed")
_LATE = _Reply(504, "a service that is needed did not respond in time")

# By the name of the class, the first that applies: an application that calls nothing does not import
# the client for it.
_REPLIES = {
    "NoInstanceAvailableError": _NO_INSTANCE,
    "CallTimeoutError": _LATE,
    "CallRejectedError": _REFUSED,
    "ClientClosedError": _STOPPING,
    "ServiceCallError": _FAILED,
    "RateLimitedError": _LIMITED,
    "RejectedError": _REFUSED,
    "InjectedFaultError": _REFUSED,
    "DeadlineExceededError": _LATE,
    "TimeoutExceededError": _LATE,
    "ConfigCenterUnavailableError": _UNREACHABLE,
    "ServiceRegistryUnavailableError": _UNREACHABLE,
}
_PASSED_ON = {429: _REFUSED, 503: _Reply(503, _FAILED.detail), 504: _LATE}


class ErrorResponses:
    """Responds to the toolkit's errors in place of a 500, and logs each kind at most once a minute."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._logs: dict[str, _ErrorLog] = {}

    async def respond(self, error: MicroserviceError, send: Send) -> bool:
        """Send the response to an error; return False where there is none, and nothing was sent."""
        reply = _find_reply(error)
        if reply is None:
            return False
        self._log(error, reply.status)
        await _send_problem(send, reply, _find_headers(error, reply.status))
        return True

    def _log(self, error: MicroserviceError, status: int) -> None:
        name = type(error).__name__
        log = self._logs.setdefault(name, _ErrorLog())
        log.add(name, status, error, self._clock())


class _ErrorLog:
    """The log of one kind of error: an outage fails every request, and must not fill the disk."""

    def __init__(self) -> None:
        self._count = 0
        self._due_at = float("-inf")

    def add(self, name: str, status: int, error: MicroserviceError, now: float) -> None:
        """Count an error; log it when none was logged for a minute."""
        self._count += 1
        if now >= self._due_at:
            logger.warning(
                "%d requests ended with %s, status %d; the last: %s",
                self._count,
                name,
                status,
                error,
            )
            self._count, self._due_at = 0, now + _LOGGED_EVERY_SECONDS


def _find_reply(error: MicroserviceError) -> _Reply | None:
    response = getattr(error, "response", None)
    passed_on = _PASSED_ON.get(getattr(response, "status_code", 0))
    if passed_on is not None:
        return passed_on
    names = {kind.__name__ for kind in type(error).__mro__}
    return next((reply for name, reply in _REPLIES.items() if name in names), None)


def _find_retry_after(error: MicroserviceError, status: int) -> int | None:
    """Return the seconds for `Retry-After`; None where trying again soon is no use."""
    if status not in {429, 503}:
        return None
    seconds: float | None = getattr(error, "retry_after", None)
    headers = getattr(getattr(error, "response", None), "headers", None)
    if isinstance(headers, Mapping):
        seconds = parse_retry_after(str(headers.get("retry-after", "")))
    if seconds is None and status == 503:
        seconds = _DEFAULT_RETRY_AFTER_SECONDS
    if seconds is None or seconds < 0:
        return None
    return max(1, math.ceil(min(seconds, _MAX_RETRY_AFTER_SECONDS)))


def _find_headers(error: MicroserviceError, status: int) -> Mapping[str, str]:
    """Return those that the error brings along, else `Retry-After` where there is one."""
    headers = getattr(error, "headers", None)
    if isinstance(headers, Mapping):
        return headers
    retry_after = _find_retry_after(error, status)
    return {} if retry_after is None else {"retry-after": str(retry_after)}


async def _send_problem(send: Send, reply: _Reply, headers: Mapping[str, str]) -> None:
    title = HTTPStatus(reply.status).phrase
    body = {"title": title, "status": reply.status, "detail": reply.detail}
    raw_headers = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send_json(send, reply.status, body, b"application/problem+json", raw_headers)
