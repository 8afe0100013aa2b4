"""Which requests may be sent more than once, and after which errors and statuses they are.

The statuses themselves are a setting: `ServicePolicy.retry_statuses`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx

from microservice_client.call_options import CallOptions
from microservice_core import InvalidValueError

__all__ = (
    "RetryableAttemptError",
    "UploadStream",
    "is_idempotent",
    "is_replayable",
    "was_never_sent",
)

_IDEMPOTENT_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE", "QUERY"})
_NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


class RetryableAttemptError(Exception):
    """An attempt failed and another one may follow; it never leaves the engine.

    Attributes:
        retry_after: seconds to wait before the next attempt, because every instance asked for it;
            None for the usual back-off.
    """

    def __init__(self, retry_after: float | None = None) -> None:
        super().__init__()
        self.retry_after = retry_after


class UploadStream(httpx.AsyncByteStream):
    """A request's body that is sent in pieces.

    Args:
        stream: the pieces.
        declared_bytes: the request's `Content-Length`; None without one.

    Attributes:
        replayable: whether it can be sent more than once: it is multipart, of bytes and of files
            that can be rewound.
        started: whether a piece was taken; any other body cannot be sent from then on.
        error: what the caller's body raised while it was read; None as long as it did not.
    """

    def __init__(self, stream: httpx.AsyncByteStream, declared_bytes: int | None = None) -> None:
        self._stream = stream
        self._declared_bytes = declared_bytes
        self.replayable = _is_rewindable_multipart(stream)
        self.started = False
        self.error: Exception | None = None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self.started = True
        try:
            async for chunk in self._iterate_declared():
                yield chunk
        except Exception as error:
            self.error = error
            raise

    async def _iterate_declared(self) -> AsyncIterator[bytes]:
        declared, size = self._declared_bytes, 0
        async for chunk in self._stream:
            size += len(chunk)
            if declared is not None and size > declared:
                raise _length_error(declared, f"at least {size} bytes")
            yield chunk
        if declared is not None and size < declared:
            raise _length_error(declared, f"{size} bytes")

    async def aclose(self) -> None:
        """Close the body."""
        await self._stream.aclose()


def _length_error(declared: int, size: str) -> InvalidValueError:
    return InvalidValueError("body", size, f"{declared} bytes long, as its content-length says")


def is_replayable(request: httpx.Request) -> bool:
    """Whether the request's body can be sent, or sent once more."""
    stream = request.stream
    return isinstance(stream, httpx.ByteStream) or (
        isinstance(stream, UploadStream) and (stream.replayable or not stream.started)
    )


def _is_rewindable_multipart(stream: httpx.AsyncByteStream) -> bool:
    # httpx keeps the parts in `fields`, and rewinds each file to its beginning before it reads it.
    fields = getattr(stream, "fields", None)
    return isinstance(fields, list) and all(
        _is_rewindable(getattr(field, "file", b"")) for field in fields
    )


def _is_rewindable(file: object) -> bool:
    if isinstance(file, str | bytes):
        return True
    try:
        return bool(getattr(file, "seekable", bool)())
    except ValueError:  # a closed file
        return False


def is_idempotent(request: httpx.Request, options: CallOptions) -> bool:
    """Whether sending the request twice has the same effect as sending it once."""
    if options.idempotent is not None:
        return options.idempotent
    return request.method in _IDEMPOTENT_METHODS or "Idempotency-Key" in request.headers


def was_never_sent(error: Exception) -> bool:
    """Whether the error rules out that the instance got the request: then any may be repeated."""
    return isinstance(error, _NEVER_SENT)
