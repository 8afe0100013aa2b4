"""Who is to blame for a failed attempt: only what came from an instance counts against it.

The one function that decides, for circuit breaker, balancer, outlier ejection, retries, hedging and
metrics by instance alike.
"""

from __future__ import annotations

import asyncio
import errno
from enum import Enum

import httpx

from microservice_core import MicroserviceError

from .call import Call
from .retryable import UploadStream

__all__ = (
    "CONNECTION_ERRORS",
    "LOWEST_FAILURE_STATUS",
    "PRESSURE_STATUS",
    "Blame",
    "FailedStatusError",
    "find_blame",
    "find_upload_error",
)

LOWEST_FAILURE_STATUS = 500
"""From this status on, a response counts as a failure of its instance."""

PRESSURE_STATUS = 429
"""The instance is overloaded, not broken: it gets fewer calls, but its breaker stays closed."""

CONNECTION_ERRORS = (httpx.TransportError, OSError, EOFError)
"""What a connection fails with, time-outs included; a failed TLS handshake is an OSError."""

_UNSENDABLE = (httpx.LocalProtocolError, httpx.UnsupportedProtocol)
# Of this client's own pool, and of policies: DeadlineExceededError is a TimeoutError as well.
_OWN_LIMITS = (httpx.PoolTimeout, MicroserviceError)
# What this process has run out of: files, memory, ports.
_SHORTAGES = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL}
)
_MAX_CAUSES = 10


class Blame(Enum):
    """Who is to blame for a failure."""

    INSTANCE = "instance"
    """A connection error, or a time limit of this client that the instance exceeded."""

    CALLER = "caller"
    """The request cannot be sent, wherever it goes, or its body raised an error."""

    NONE = "none"
    """The instance had no fair chance: a cancellation, an inherited deadline, a limit of this
    process, a defect."""


class FailedStatusError(Exception):
    """A status that counts as a failure, as breaker and balancer get it; never raised."""


def find_blame(error: BaseException, call: Call) -> Blame:
    """Return who is to blame for the error of an attempt, or of a response's body.

    Args:
        error: what was raised.
        call: the call that the attempt belongs to.
    """
    if find_upload_error(call) is not None or isinstance(error, _UNSENDABLE):
        return Blame.CALLER
    if isinstance(error, asyncio.CancelledError):
        exceeded = call.has_timed_out() and not call.has_inherited_deadline
        return Blame.INSTANCE if exceeded else Blame.NONE
    if isinstance(error, _OWN_LIMITS) or not isinstance(error, CONNECTION_ERRORS):
        return Blame.NONE
    return Blame.NONE if _is_shortage(error) else Blame.INSTANCE


def find_upload_error(call: Call) -> Exception | None:
    """Return what the request's body raised while it was read, if it did.

    A connection layer may raise an error of its own in its place.
    """
    stream = call.request.stream
    return stream.error if isinstance(stream, UploadStream) else None


def _is_shortage(error: BaseException) -> bool:
    cause: BaseException | None = error
    for _ in range(_MAX_CAUSES):
        if cause is None:
            return False
        if isinstance(cause, OSError) and cause.errno in _SHORTAGES:
            return True
        cause = cause.__cause__ or cause.__context__
    return False
