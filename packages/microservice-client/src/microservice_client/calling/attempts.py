"""One attempt: select an instance, send the request to it, and record the outcome."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import httpx
from opentelemetry.context import get_current

from microservice_client.discovery.instance_cache import InstanceCache
from microservice_client.errors import (
    Attempt,
    CallFailedError,
    CallRejectedError,
    NoInstanceCallError,
)
from microservice_client.http.connections import Connections
from microservice_client.http.requests import address_request
from microservice_client.telemetry.metrics import CallMetrics
from microservice_client.telemetry.tracing import AttemptSpan, Send, Tracing, inject_trace_context
from microservice_core import (
    InvalidValueError,
    ProviderError,
    ServiceInstance,
    parse_retry_after,
)
from microservice_governance import RateLimitedError, RateLimiter, RejectedError, deadline
from microservice_lb import NeutralOutcome

from .blame import CONNECTION_ERRORS, Blame, find_blame, find_upload_error
from .call import Call, ConnectionWait
from .instance_selector import InstanceSelector
from .reservation import NOT_COUNTED, Reservation, ReservedBody
from .retryable import RetryableAttemptError, is_idempotent, is_replayable, was_never_sent
from .service import Service

__all__ = ("AttemptRunner", "build_rejected_error")

logger = logging.getLogger(__name__)

_NOT_REPLAYABLE = (
    "its body cannot be sent a second time; send bytes, or files that can be rewound, to have it "
    "tried elsewhere"
)
_NOT_SENT = NeutralOutcome("the attempt was not made")
_SENDABLE = "one that HTTP can carry; check its method, headers and body"


class AttemptRunner:
    """Runs the attempts of calls.

    Args:
        cache: the instances of each service.
        selector: selects one of them.
        connections: send a request to an instance.
        tracing: makes the span of each attempt.
        metrics: records each attempt.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        cache: InstanceCache,
        selector: InstanceSelector,
        connections: Connections,
        *,
        tracing: Tracing,
        metrics: CallMetrics,
        clock: Callable[[], float],
    ) -> None:
        self._cache = cache
        self._selector = selector
        self._connections = connections
        self._tracing = tracing
        self._metrics = metrics
        self._clock = clock

    async def run(self, service: Service, call: Call) -> httpx.Response:
        """Make one attempt and return the response, its body unread.

        Raises:
            RetryableAttemptError: the attempt failed, and another one may follow.
            ServiceCallError: the attempt failed, and no other may follow.
        """
        reservation = await self.reserve(service, call)
        if not reservation.try_take_place():
            reservation = await self._wait_for_place(service, call, reservation)
        # After the selection, so that a call without an instance takes nothing from the limit.
        self._acquire_rate_limit(service.rate_limiter, call, reservation)
        span: AttemptSpan | None = None
        try:
            # Asked once per attempt: the deadline header and the timer use the same number.
            seconds, remaining = call.policy.attempt_timeout_seconds, deadline.remaining()
            if remaining is not None and remaining < seconds:
                seconds = remaining
            instance = reservation.lease.endpoint
            request = address_request(
                call.request, instance, call.policy, seconds, raw_headers=call.raw_headers
            )
            send: Send = reservation.pool.transport.handle_async_request
            if call.traced:
                number = len(call.attempts) + 1
                span = self._tracing.start_attempt(request, instance, number)
                send = span.wrap(send)
            elif get_current():
                inject_trace_context(request)
            if call.last_response is not None:
                await call.replace_last_response(None)
            if seconds == remaining:  # the timer of the whole call ends no later
                response = await send(request)
            else:
                async with asyncio.timeout(seconds):
                    response = await send(request)
        except BaseException as error:
            failure = self._record_failure(call, reservation, span, error)
            if failure is None or failure is error:
                raise
            # The error of the caller's own body is the cause of the other, and not the reverse.
            raise failure from (None if failure is find_upload_error(call) else error)
        self._record_response(call, reservation, span, response.status_code)
        _link_response(response, request, call)
        response.stream = ReservedBody(response, reservation, call=call, clock=self._clock)
        if response.status_code in call.policy.retry_statuses:
            await self._handle_retry_status(service, call, reservation, response)
        return response

    async def run_hedged(self, service: Service, call: Call) -> httpx.Response:
        """Make one attempt, and a second one on another instance if the first is slow.

        Raises:
            RetryableAttemptError: the attempts failed, and another one may follow.
            ServiceCallError: the attempts failed, and no other may follow.
        """
        await self._update_instances(service)
        hedge = service.find_hedge(call.policy)
        if hedge is None:
            return await self.run(service, call)
        responses: list[httpx.Response] = []

        async def attempt() -> httpx.Response:
            response = await self.run(service, call)
            responses.append(response)
            return response

        winner: httpx.Response | None = None
        try:
            winner = await hedge.arun(attempt)
            return winner
        finally:
            # Both may have got a response at the same moment; the other one has to be closed.
            for response in responses:
                if response is not winner:
                    await response.aclose()

    async def reserve(self, service: Service, call: Call) -> Reservation:
        """Select an instance and hold it.

        Raises:
            NoInstanceCallError: no instance can be called.
        """
        if self._cache.find(service.name) is not service.instances:
            await self._update_instances(service)
        lease, permit = self._selector.select(service, call)
        instance = lease.endpoint
        call.tried.add(instance.instance_id)
        pool = self._connections.find_pool(service.policy, instance)
        return Reservation(lease, permit, pool, self._clock())

    async def _wait_for_place(
        self, service: Service, call: Call, reservation: Reservation
    ) -> Reservation:
        """Wait until the instance may get one more request, or another instance may.

        Returns:
            The reservation of the instance, which has a place.

        Raises:
            NoFreeConnectionError: no place became free in time.
            NoInstanceCallError: no other instance can be called.
        """
        while True:
            others = self._selector.has_alternative(service, call)
            wait = call.connection_wait = reservation.begin_wait(self._clock())
            if await self._take_place_in_time(call, reservation, others=others):
                call.connection_wait = None
                return reservation
            if not others:
                raise call.no_connection_error(wait, self._clock())
            reservation = await self.reserve(service, call)

    async def _take_place_in_time(
        self, call: Call, reservation: Reservation, *, others: bool
    ) -> bool:
        """Wait for a place; without one the reservation is released.

        The wait is as long as an attempt if other instances may have a place, or else as long as
        the call, unless the caller's httpx client has a time limit for it.
        """
        timeout: dict[str, float | None] | None = call.request.extensions.get("timeout")
        seconds = timeout.get("pool") if timeout else None
        if others:
            attempt_seconds = call.policy.attempt_timeout_seconds
            seconds = attempt_seconds if seconds is None else min(seconds, attempt_seconds)
        try:
            async with asyncio.timeout(seconds):
                await reservation.take_place(self._clock)
        except TimeoutError:
            reservation.release(_NOT_SENT)
            return False
        except BaseException:
            reservation.release(_NOT_SENT)
            raise
        return True

    async def load_instances(self, service_name: str) -> tuple[ServiceInstance, ...]:
        """Return the instances of the service, from the registry if they are not in the cache.

        Raises:
            NoInstanceCallError: the registry cannot be queried.
        """
        try:
            return await self._cache.load(service_name)
        except (ProviderError, OSError) as error:
            raise NoInstanceCallError(
                service_name, f"its instances cannot be looked up: {error}"
            ) from error

    async def _update_instances(self, service: Service) -> None:
        instances = self._cache.find(service.name)
        if instances is None:
            instances = await self.load_instances(service.name)
        if instances is not service.instances:
            service.update_instances(instances)

    def _acquire_rate_limit(
        self, limiter: RateLimiter | None, call: Call, reservation: Reservation
    ) -> None:
        if limiter is None:
            return
        decision = limiter.try_acquire()
        if decision.allowed:
            return
        error = RateLimitedError(
            limiter.name, limiter.config.rate, limiter.config.per_seconds, decision.retry_after
        )
        reservation.release(_NOT_SENT)
        raise build_rejected_error(call, error, self._metrics)

    def _record_response(
        self, call: Call, reservation: Reservation, span: AttemptSpan | None, status: int
    ) -> None:
        reservation.record_status(status)
        self._record_attempt(call, reservation, str(status))
        if span is not None:
            span.end_with_status(status)
        if call.measured:
            self._record_metrics(call, status)

    def _record_failure(
        self,
        call: Call,
        reservation: Reservation,
        span: AttemptSpan | None,
        error: BaseException,
    ) -> Exception | None:
        """Record an attempt without a response; return the error to raise in place of `error`."""
        if isinstance(error, httpx.PoolTimeout):  # of a pool that counts by itself
            reservation.release(_NOT_SENT)
            if span is not None:
                span.end_with_error(error)
            limit = call.policy.max_connections_per_instance if call.policy.http2 else None
            instance_id = reservation.lease.endpoint.instance_id
            wait = ConnectionWait(instance_id, limit, reservation.started_at)
            return call.no_connection_error(wait, self._clock())
        blame = find_blame(error, call)
        self._record_error(call, reservation, span, error, blame)
        if blame is Blame.CALLER:
            problem = type(error).__name__
            return find_upload_error(call) or InvalidValueError("request", problem, _SENDABLE)
        if isinstance(error, CONNECTION_ERRORS):
            return self._retry_or_fail(call, error)
        return None

    def _record_error(
        self,
        call: Call,
        reservation: Reservation,
        span: AttemptSpan | None,
        error: BaseException,
        blame: Blame,
    ) -> None:
        if isinstance(error, asyncio.CancelledError) and call.has_timed_out():
            # An instance that is too slow for the call's time limit has failed.
            error = TimeoutError()
        reservation.release(error if blame is Blame.INSTANCE else NOT_COUNTED)
        self._record_attempt(call, reservation, type(error).__name__)
        if span is not None:
            span.end_with_error(error)
        if isinstance(error, Exception) and call.measured:
            self._record_metrics(call, error, counted=blame is Blame.INSTANCE)

    def _record_attempt(self, call: Call, reservation: Reservation, outcome: str) -> None:
        seconds = self._clock() - reservation.started_at
        call.attempts.append(Attempt(reservation.lease.endpoint.instance_id, outcome, seconds))

    def _record_metrics(
        self, call: Call, outcome: int | Exception, *, counted: bool = True
    ) -> None:
        last = call.attempts[-1]
        self._metrics.record_attempt(
            call.service_name,
            last.instance_id,
            call.request.method,
            last.duration_seconds,
            outcome,
            counted=counted,
        )

    async def _handle_retry_status(
        self, service: Service, call: Call, reservation: Reservation, response: httpx.Response
    ) -> None:
        """Let the instance cool down as long as it asks for, and retry if the request allows it.

        Raises:
            RetryableAttemptError: another attempt may follow.
        """
        headers = response.headers
        retry_after = parse_retry_after(headers.get("retry-after"), date=headers.get("date"))
        if retry_after:
            seconds = min(retry_after, call.policy.breaker_open_seconds)
            service.cool_down(reservation.lease.endpoint.instance_id, seconds)
        if not is_idempotent(call.request, call.options):
            return
        if not is_replayable(call.request):
            logger.info("%s: no further attempt, as %s", call.service_name, _NOT_REPLAYABLE)
            return
        await call.replace_last_response(response)
        if not retry_after or self._selector.has_alternative(service, call):
            raise RetryableAttemptError
        raise RetryableAttemptError(retry_after)

    def _retry_or_fail(self, call: Call, error: Exception) -> Exception:
        """The error to raise after an attempt without a response."""
        if was_never_sent(error) or is_idempotent(call.request, call.options):
            if is_replayable(call.request):
                return RetryableAttemptError()
            return CallFailedError(call.service_name, call.attempts, suggestion=_NOT_REPLAYABLE)
        return CallFailedError(call.service_name, call.attempts)


def _link_response(response: httpx.Response, sent: httpx.Request, call: Call) -> None:
    """Link the response to the caller's request, and a redirect also to the host that was called."""
    response.request = call.request
    if 300 <= response.status_code < 400:
        response.extensions["instance_host"] = sent.headers["host"]


def build_rejected_error(
    call: Call, error: RejectedError, metrics: CallMetrics
) -> CallRejectedError:
    """Count the rejection, and return the error for the caller."""
    if call.measured:
        metrics.record_rejection(call.service_name, error.policy)
    return CallRejectedError(
        call.service_name,
        error.policy,
        str(error),
        retry_after=error.retry_after,
        attempts=call.attempts,
    )
