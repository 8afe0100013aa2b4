"""One attempt: choose an instance, send the request there, tell everybody how it went."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import httpx

from microservice_client.discovery.instance_cache import InstanceCache
from microservice_client.errors import (
    Attempt,
    CallFailedError,
    CallRejectedError,
    NoInstanceCallError,
)
from microservice_client.http.connections import Connections
from microservice_client.http.instance_requests import addressed
from microservice_client.policy import ServicePolicy
from microservice_client.telemetry.metrics import CallMetrics
from microservice_client.telemetry.tracing import AttemptSpan, Tracing, hand_on
from microservice_core import ProviderError, ServiceInstance
from microservice_governance import RateLimitedError, RateLimiter, RejectedError, deadline

from .call import Call, Trial, retry_after_of
from .instance_selector import Choosing
from .response_stream import LeasedStream
from .service import Service, TryElsewhereError

__all__ = ("Attempts", "rejected")

NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
_NOT_MADE = GeneratorExit("the attempt was not made")


class Attempts:
    """Makes attempts.

    Args:
        discovery: who answers for each service.
        choosing: which of them is asked.
        connections: what carries a request to an instance.
        tracing, metrics: told of each attempt.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        discovery: InstanceCache,
        choosing: Choosing,
        connections: Connections,
        *,
        tracing: Tracing,
        metrics: CallMetrics,
        clock: Callable[[], float],
    ) -> None:
        self._discovery = discovery
        self._choosing = choosing
        self._connections = connections
        self._tracing = tracing
        self._metrics = metrics
        self._clock = clock

    async def make(self, service: Service, call: Call) -> httpx.Response:
        """The response of one instance, its body unread.

        Raises:
            TryElsewhereError: it failed, and another attempt is allowed.
            ServiceCallError: it failed, and none is.
        """
        trial = await self.begin(service, call)
        if service.limiter is not None:
            self._take_from_limit(service.limiter, call, trial)
        span: AttemptSpan | None = None
        try:
            request = addressed(
                call.request, trial.lease.endpoint, call.policy, _seconds_for_attempt(call.policy)
            )
            if call.traced:
                number = len(call.attempts) + 1
                span = self._tracing.attempt(request, trial.lease.endpoint, number)
            else:
                hand_on(request)
            if call.spare is not None:
                await call.keep_spare(None)
            response = await self._transmit(trial, call.policy, request)
        except BaseException as error:
            self._failed(call, trial, span, error)
            if isinstance(error, httpx.TransportError | TimeoutError):
                raise self._again_or(call, error) from error
            raise
        return await self._answered(service, call, trial, span, response)

    async def make_hedged(self, service: Service, call: Call) -> httpx.Response:
        """The same, with another instance asked as well when the first is slow."""
        await self._follow(service)
        hedge = service.hedge(call.policy)
        if hedge is None:
            return await self.make(service, call)
        answers: list[httpx.Response] = []

        async def attempt() -> httpx.Response:
            response = await self.make(service, call)
            answers.append(response)
            return response

        winner: httpx.Response | None = None
        try:
            winner = await hedge.arun(attempt)
            return winner
        finally:
            # Two may have answered in the same moment.
            for answer in answers:
                if answer is not winner:
                    await answer.aclose()

    async def begin(self, service: Service, call: Call) -> Trial:
        """Choose an instance and hold it.

        Raises:
            NoInstanceCallError: nobody can be asked.
        """
        await self._follow(service)
        lease, permit = self._choosing.choose(service, call)
        instance = lease.endpoint
        call.tried.add(instance.instance_id)
        return Trial(lease, permit, self._connections.pool(service.policy, instance), self._clock())

    async def load(self, name: str) -> tuple[ServiceInstance, ...]:
        """The service's instances.

        Raises:
            NoInstanceCallError: the registry cannot be asked.
        """
        try:
            return await self._discovery.load(name)
        except (ProviderError, OSError) as error:
            raise NoInstanceCallError(
                name, f"its instances cannot be found out: {error}"
            ) from error

    async def _follow(self, service: Service) -> None:
        instances = self._discovery.known(service.name)
        if instances is None:
            instances = await self.load(service.name)
        if instances is not service.instances:
            service.follow(instances)

    def _take_from_limit(self, limiter: RateLimiter, call: Call, trial: Trial) -> None:
        decision = limiter.try_acquire()
        if decision.allowed:
            return
        error = RateLimitedError(
            limiter.name, limiter.config.rate, limiter.config.per_seconds, decision.retry_after
        )
        trial.end(_NOT_MADE)
        raise rejected(call, error, self._metrics)

    async def _transmit(
        self, trial: Trial, policy: ServicePolicy, request: httpx.Request
    ) -> httpx.Response:
        transport = trial.pool.transport
        left = deadline.remaining()
        if left is not None and left <= policy.attempt_timeout_seconds:
            return await transport.handle_async_request(request)  # the call's own timer is earlier
        async with asyncio.timeout(policy.attempt_timeout_seconds):
            return await transport.handle_async_request(request)

    def _failed(
        self, call: Call, trial: Trial, span: AttemptSpan | None, error: BaseException
    ) -> None:
        if isinstance(error, asyncio.CancelledError) and call.ran_out():
            error = TimeoutError()  # to the instance, being too slow for its caller is a failure
        trial.end(error)
        self._note(call, trial, type(error).__name__)
        if span is not None:
            span.failed(error)
        if isinstance(error, Exception) and call.measured:
            self._measure(call, error)

    def _measure(self, call: Call, outcome: int | Exception) -> None:
        last = call.attempts[-1]
        seconds = last.duration_seconds
        self._metrics.attempted(call.service_name, call.request.method, seconds, outcome)
        if self._metrics.instances is not None:
            self._metrics.instances.attempted(call.service_name, last.instance_id, seconds, outcome)

    async def _answered(
        self,
        service: Service,
        call: Call,
        trial: Trial,
        span: AttemptSpan | None,
        response: httpx.Response,
    ) -> httpx.Response:
        status = response.status_code
        trial.answered(status)
        self._note(call, trial, str(status))
        if span is not None:
            span.answered(status)
        if call.measured:
            self._measure(call, status)
        response.request = call.request
        response.stream = LeasedStream(
            response,
            trial,
            call=call,
            patience_seconds=call.policy.attempt_timeout_seconds,
            clock=self._clock,
        )
        if status in call.policy.retry_statuses:
            wait = self._rest(service, call, trial, response)
            if call.replayable and call.idempotent:
                await call.keep_spare(response)
                raise TryElsewhereError(wait)
        return response

    def _rest(
        self, service: Service, call: Call, trial: Trial, response: httpx.Response
    ) -> float | None:
        """Leave the instance alone as long as it asks for; the wait when nobody else is left."""
        asked = retry_after_of(response)
        if not asked:
            return None
        service.rest(trial.lease.endpoint.instance_id, min(asked, call.policy.breaker_open_seconds))
        busy = self._choosing.left_out(service, call) | call.tried | set(service.resting)
        others = any(one.instance_id not in busy for one in service.eligible)
        return None if others else asked

    def _again_or(self, call: Call, error: Exception) -> Exception:
        never_sent = isinstance(error, NEVER_SENT)
        if call.replayable and (call.idempotent or never_sent):
            return TryElsewhereError()
        return CallFailedError(call.service_name, call.attempts)

    def _note(self, call: Call, trial: Trial, outcome: str) -> None:
        instance_id = trial.lease.endpoint.instance_id
        call.attempts.append(Attempt(instance_id, outcome, self._clock() - trial.began))


def _seconds_for_attempt(policy: ServicePolicy) -> float:
    left = deadline.remaining()
    limit = policy.attempt_timeout_seconds
    return limit if left is None or left > limit else left


def rejected(call: Call, error: RejectedError, metrics: CallMetrics) -> CallRejectedError:
    """The error for the caller, counted."""
    if call.measured:
        metrics.rejected(call.service_name, error.policy)
    return CallRejectedError(
        call.service_name,
        error.policy,
        str(error),
        retry_after=error.retry_after,
        attempts=call.attempts,
    )
