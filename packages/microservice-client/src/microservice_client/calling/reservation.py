"""What an attempt holds on its instance, and the response body that holds it until it is read."""

from __future__ import annotations

import asyncio
import contextlib
import zlib
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import cast

import httpx

from microservice_client.errors import (
    BodyBrokenError,
    BodyTooLargeError,
    ClientClosedError,
    ResponseFormatError,
)
from microservice_client.http.bodies import (
    BOUNDED_CODINGS,
    UnreadableCodingError,
    decode_body,
    find_coding,
    read_body,
    slice_chunk,
)
from microservice_client.http.cancel_safe import CancelSafeStream
from microservice_client.http.connections import Pool
from microservice_core import ServiceInstance
from microservice_governance import Permit
from microservice_lb import Lease, NeutralOutcome

from .blame import (
    CONNECTION_ERRORS,
    LOWEST_FAILURE_STATUS,
    PRESSURE_STATUS,
    Blame,
    FailedStatusError,
    find_blame,
)
from .call import Call, ConnectionWait

__all__ = ("NOT_COUNTED", "Reservation", "ReservedBody", "read_response")

NOT_COUNTED = NeutralOutcome("the instance is not to blame")
"""The outcome of an attempt that says nothing about its instance."""


class Reservation:
    """An instance in use by one attempt: its balancer lease, breaker permit and connection pool.

    Attributes:
        started_at: clock time at which the attempt began.
        status: of the response; 0 before it.
        held: until `release`.
        has_place: whether one of the pool's places is held.
        has_waited: whether the attempt waited for it; its duration then says nothing about the
            instance.
    """

    __slots__ = (
        "has_place",
        "has_waited",
        "held",
        "lease",
        "permit",
        "pool",
        "started_at",
        "status",
    )

    def __init__(
        self, lease: Lease[ServiceInstance], permit: Permit, pool: Pool, started_at: float
    ) -> None:
        self.lease = lease
        self.permit = permit
        self.pool = pool
        self.started_at = started_at
        self.status = 0
        self.held = True
        self.has_place = False
        self.has_waited = False
        pool.active += 1

    def try_take_place(self) -> bool:
        """Take a place for the connection without a wait; return whether the request may be sent."""
        places = self.pool.places
        if places is None:
            return True
        self.has_place = places.try_take()
        return self.has_place

    def begin_wait(self, now: float) -> ConnectionWait:
        """Describe the wait for a place that begins now."""
        places = self.pool.places
        limit = None if places is None else places.limit
        return ConnectionWait(self.lease.endpoint.instance_id, limit, now)

    async def take_place(self, clock: Callable[[], float]) -> None:
        """Wait for a place; the attempt begins with it.

        Raises:
            ClientClosedError: the client was closed.
        """
        places = self.pool.places
        if places is None:
            return
        self.has_waited = True
        if not await places.take():
            raise ClientClosedError
        self.has_place = True
        self.started_at = clock()

    def record_status(self, status: int) -> None:
        """Record the status; what it means to the breaker need not wait for the body."""
        self.status = status
        if status >= LOWEST_FAILURE_STATUS:
            self.permit.release(FailedStatusError(status))
        elif status == PRESSURE_STATUS:
            self.permit.release(NOT_COUNTED)

    def release(self, error: BaseException | None = None, *, measured: bool = True) -> None:
        """Report the outcome to breaker and balancer, once; later calls do nothing.

        Args:
            error: why the attempt failed; a cancellation is not counted. Without an error the
                status decides.
            measured: whether the duration says how fast the instance is.
        """
        if not self.held:
            return
        self.held = False
        if self.has_place and self.pool.places is not None:
            self.pool.places.give_back()
        self.pool.end_call()
        self.permit.release(error)
        status = self.status
        # Pressure is no failure for the breaker, but the balancer sends such an instance less.
        if error is None and (status >= LOWEST_FAILURE_STATUS or status == PRESSURE_STATUS):
            error = FailedStatusError(status)
        if error is None and (self.has_waited or not measured):
            self.lease.cancel()
        else:
            self.lease.release(error)


class ReservedBody(httpx.AsyncByteStream):
    """A response's body that releases the reservation of its instance at its end.

    A body that breaks off is a failure of the instance. When the reader leaves early, or the body
    takes longer than the attempt's time limit, the duration is not measured: it depends on the
    reader as well.
    """

    def __init__(
        self,
        response: httpx.Response,
        reservation: Reservation,
        *,
        call: Call,
        clock: Callable[[], float],
    ) -> None:
        # An async transport returns async bodies; httpx types them for both kinds.
        self._stream = cast("httpx.AsyncByteStream", response.stream)
        self._response = response
        self._reservation = reservation
        self._call = call
        self._clock = clock
        self._callback: Callable[[], None] | None = None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        is_encoded = bool(self.find_coding())
        try:
            async for chunk in self._stream:
                if is_encoded:
                    for part in slice_chunk(chunk):
                        yield part
                else:
                    yield chunk
        except Exception as error:
            self._break_off(error)
            raise
        self._finish()

    def find_coding(self) -> str:
        """Return the body's content coding; empty without one.

        Raises:
            ResponseFormatError: it has several, or one that was not asked for.
        """
        accepted = self._call.request.headers.get("accept-encoding", "")
        try:
            return find_coding(self._response, accepted)
        except UnreadableCodingError as error:
            raise self._format_error(error.codings, error.reason) from error

    def decode(self, coding: str, body: bytes) -> bytes:
        """Decode a body that was read as a whole.

        Raises:
            BodyTooLargeError: the decoded body is longer than the policy allows.
            ResponseFormatError: the body is not encoded so, or cannot be decoded within a bound.
        """
        if coding not in BOUNDED_CODINGS:
            raise self._format_error(coding, "it can only be streamed")
        try:
            decoded = decode_body(coding, body, self._call.policy.max_body_bytes)
        except zlib.error as error:
            raise self._format_error(coding, str(error)) from error
        if decoded is None:
            raise self._too_large_error()
        return decoded

    def on_close(self, callback: Callable[[], None]) -> None:
        """Set the callback that is called once when the body is closed or collected."""
        self._callback = callback

    async def read_all(self) -> bytes:
        """Read the whole body and close it.

        Raises:
            BodyBrokenError: the body broke off.
            BodyTooLargeError: the body is longer than the policy allows.
        """
        stream, max_bytes = self._stream, self._call.policy.max_body_bytes
        try:
            if isinstance(stream, CancelSafeStream):
                body = await stream.read_all(max_bytes)
            else:
                body = await read_body(stream, max_bytes)
            if body is not None:
                self._finish()
        except asyncio.CancelledError as error:
            # An instance that is too slow for the call's time limit has failed.
            exceeded = find_blame(error, self._call) is Blame.INSTANCE
            self._reservation.release(TimeoutError() if exceeded else error)
            raise
        except Exception as error:
            self._break_off(error)
            raise
        finally:
            await self.aclose()
        if body is None:
            raise self._too_large_error()
        return body

    async def aclose(self) -> None:
        """Close the body and release the reservation."""
        try:
            await self._stream.aclose()
        finally:
            self._release()

    def __del__(self) -> None:
        # A response that was dropped without being closed. Its connection is left to the
        # collector, but the reservation would be held for good.
        if self._reservation.held or self._callback is not None:
            with contextlib.suppress(RuntimeError):  # there may be no loop in this thread
                self._release()

    def _break_off(self, error: Exception) -> None:
        """Record the error; raise the client's own in place of a connection error."""
        call = self._call
        counts = find_blame(error, call) is Blame.INSTANCE
        self._reservation.release(error if counts else NOT_COUNTED)
        if isinstance(error, CONNECTION_ERRORS):
            raise BodyBrokenError(call.service_name, call.attempts) from error

    def _format_error(self, coding: str, reason: str) -> ResponseFormatError:
        expected = f"body of content-encoding {coding}"
        return ResponseFormatError(self._call.service_name, expected, reason)

    def _too_large_error(self) -> BodyTooLargeError:
        call = self._call
        return BodyTooLargeError(call.service_name, call.policy.max_body_bytes, call.attempts)

    def _finish(self) -> None:
        seconds = self._clock() - self._reservation.started_at
        self._response.elapsed = timedelta(seconds=seconds)
        limit = self._call.policy.attempt_timeout_seconds
        self._reservation.release(measured=seconds <= limit)

    def _release(self) -> None:
        # After `_finish` there is nothing left to release: the first outcome counts.
        if self._reservation.held:
            self._reservation.release(measured=False)
        callback, self._callback = self._callback, None
        if callback is not None:
            callback()


async def read_response(response: httpx.Response) -> None:
    """Read the body of an attempt's response, which is a `ReservedBody`, and close it.

    Raises:
        BodyBrokenError: the body broke off.
        BodyTooLargeError: the body is longer than the policy allows.
        ResponseFormatError: the body is not encoded as its header says.
    """
    body = cast("ReservedBody", response.stream)
    headers = response.headers
    is_encoded = "content-encoding" in headers
    try:
        coding = body.find_coding() if is_encoded else ""
    except ResponseFormatError:
        await body.aclose()
        raise
    # Read at once and decoded without the four generators that `response.aread` would use.
    content = await body.read_all()
    if coding:
        content = body.decode(coding, content)
    response.stream = httpx.ByteStream(content)
    if is_encoded:
        # httpx decodes by the headers that it finds here, without a bound.
        response.headers = httpx.Headers(
            [pair for pair in headers.raw if pair[0].lower() != b"content-encoding"]
        )
    response.read()
    response.headers = headers
