"""One call under way: what it carries, who was tried, and what an attempt holds while it lasts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx

from microservice_client.errors import Attempt
from microservice_client.http.connections import Pool
from microservice_client.interceptors.chain import Interceptor, RequestInterceptor
from microservice_client.policy import RaiseOn, ServicePolicy
from microservice_core import InstanceFilter, ServiceInstance
from microservice_governance import Permit
from microservice_lb import Lease

from .fallbacks import FallbackAnswer

__all__ = ("Call", "CallOptions", "FailedStatusError", "Trial", "UploadStream", "retry_after_of")

IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE", "QUERY"})


@dataclass(frozen=True, slots=True, kw_only=True)
class CallOptions:
    """What one call asks for beyond its request.

    The httpx transports find it in the request's extensions:
    `http.get(url, extensions={"call_options": CallOptions(key="user-7")})`.

    Attributes:
        policy: in the place of the service's. Breakers, balancer, limits and budget stay the
            service's own.
        total_timeout_seconds: for the call with all its attempts, in the place of the policy's.
        filters: narrow the instances, after the client's and the service's.
        interceptors: within the client's and the service's.
        key: what a hash balancer hashes, e.g. a user's id.
        idempotent: whether the request may be sent twice; by default its method decides, or an
            `Idempotency-Key` header.
        raise_on: in the place of the policy's.
        fallback: what stands in for an answer, in the place of the client's.
    """

    policy: ServicePolicy | None = None
    total_timeout_seconds: float | None = None
    filters: Sequence[InstanceFilter] = ()
    interceptors: Sequence[Interceptor | RequestInterceptor] = ()
    key: str | bytes | None = None
    idempotent: bool | None = None
    raise_on: RaiseOn | None = None
    fallback: FallbackAnswer | None = None


_LOWEST_RAISED: dict[RaiseOn, int] = {"never": 1000, "server_errors": 500, "errors": 400}

NO_OPTIONS = CallOptions()


class FailedStatusError(Exception):
    """A status of 500 or above, told to breaker and balancer; never raised."""


_NEUTRAL = GeneratorExit("counts as no outcome")


@dataclass(slots=True)
class Call:
    """One call under way; what a filter may know of it.

    Attributes:
        reading: whether the body is read before the caller gets the response.
        traced, measured: whether somebody looks at spans and metrics.
        spare: the response of an attempt that another one is to replace.
        timer: ends the call when its time is over.
    """

    service_name: str
    request: httpx.Request
    options: CallOptions
    policy: ServicePolicy
    reading: bool = False
    traced: bool = False
    measured: bool = False
    attempts: list[Attempt] = field(default_factory=list)
    tried: set[str] = field(default_factory=set)
    spare: httpx.Response | None = None
    timer: asyncio.Timeout | None = None

    def again(self, request: httpx.Request) -> Call:
        """The same call from its start, with that request; what was tried stays on record."""
        return replace(self, request=request, tried=set(), spare=None, timer=None)

    @property
    def headers(self) -> Mapping[str, str]:
        """The request's headers."""
        return self.request.headers

    @property
    def total_seconds(self) -> float:
        """How long the call may take."""
        given = self.options.total_timeout_seconds
        return self.policy.total_timeout_seconds if given is None else given

    @property
    def lowest_raised_status(self) -> int:
        """The first status that is raised as an error."""
        return _LOWEST_RAISED[self.options.raise_on or self.policy.raise_on]

    @property
    def replayable(self) -> bool:
        """Whether the body can be sent (once more)."""
        stream = self.request.stream
        return isinstance(stream, httpx.ByteStream) or (
            isinstance(stream, UploadStream) and not stream.started
        )

    @property
    def idempotent(self) -> bool:
        """Whether sending it twice does no harm."""
        if self.options.idempotent is not None:
            return self.options.idempotent
        return self.request.method in IDEMPOTENT or "Idempotency-Key" in self.request.headers

    def ran_out(self) -> bool:
        """Whether a cancellation just now comes from the call's own time limit."""
        return self.timer is not None and self.timer.expired()

    async def keep_spare(self, response: httpx.Response | None) -> None:
        """Keep this response for the case that no better one comes; closes the one before."""
        before, self.spare = self.spare, response
        if before is not None:
            await before.aclose()


class Trial:
    """One attempt under way: the instance with its lease and permit, and its connections."""

    __slots__ = ("_kept", "began", "lease", "permit", "pool", "status")

    def __init__(
        self, lease: Lease[ServiceInstance], permit: Permit, pool: Pool, began: float
    ) -> None:
        self.lease = lease
        self.permit = permit
        self.pool = pool
        self.began = began
        self.status = 0
        self._kept = True
        pool.enter()

    def answered(self, status: int) -> None:
        """The headers are there; an error status is the breaker's outcome already now."""
        self.status = status
        if status >= 500:
            self.permit.release(FailedStatusError(status))
        elif status == 429:
            # No sign of a broken instance, but of one to go easy on: the balancer hears of it.
            self.permit.release(_NEUTRAL)

    def end(self, error: BaseException | None = None, *, measured: bool = True) -> None:
        """Give everything back, once; what the status says counts when there was no error.

        Args:
            error: what it failed with; a cancellation counts as no outcome.
            measured: whether its duration says how fast the instance is.
        """
        if not self._kept:
            return
        self._kept = False
        self.pool.leave()
        self.permit.release(error)
        if error is None and (self.status >= 500 or self.status == 429):
            error = FailedStatusError(self.status)
        if error is None and not measured:
            self.lease.cancel()
        else:
            self.lease.release(error)


class UploadStream(httpx.AsyncByteStream):
    """A request's body that comes bit by bit; it can be sent until its first byte was taken."""

    def __init__(self, stream: httpx.AsyncByteStream) -> None:
        self._stream = stream
        self.started = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self.started = True
        async for chunk in self._stream:
            yield chunk

    async def aclose(self) -> None:
        """Close the body."""
        await self._stream.aclose()


def retry_after_of(response: httpx.Response) -> float | None:
    """Seconds the instance asks to be left alone for; None when it does not, or unreadably.

    Source: RFC 9110, 10.2.3 "Retry-After"; a date counts from the response's own `Date`.
    """
    value = response.headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        until = parsedate_to_datetime(value)
        now = _date_of(response)
        return max(0.0, (until - now).total_seconds())
    except (ValueError, TypeError):  # a date without a zone cannot be compared
        return None


def _date_of(response: httpx.Response) -> datetime:
    said = response.headers.get("date")
    return parsedate_to_datetime(said) if said else datetime.now(UTC)
