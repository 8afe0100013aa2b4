"""The one way a call goes: discovery, filters, balancer, breaker, transport, and again elsewhere.

`AsyncServiceClient`, the httpx transports and declarative clients all come through `CallEngine`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

import httpx

from microservice_core import (
    InstanceFilter,
    NoInstanceAvailableError,
    ProviderError,
    ServiceInstance,
)
from microservice_governance import CircuitOpenError, Permit, deadline
from microservice_lb import Lease

from .addressing import addressed
from .call import NO_OPTIONS, Call, CallOptions, Trial, UploadStream, retry_after_of
from .connections import Connections
from .discovery import DiscoverySnapshot
from .errors import (
    Attempt,
    CallFailedError,
    CallStatusError,
    CallTimeoutError,
    NoInstanceCallError,
    ServiceCallError,
)
from .interceptors import Interceptor, RequestInterceptor, chain, through
from .metrics import CallMetrics
from .policy import ServicePolicy
from .recent_calls import RecentCalls
from .service import BalancerMaker, Service, TryElsewhereError, admitted, static_filters
from .streams import LeasedStream, read
from .telemetry import AttemptSpan, Tracing, hand_on, note_status

__all__ = ("CallEngine",)

NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


class CallEngine:
    """Sends requests to services by name.

    Args:
        discovery: who answers for each service.
        connections: what carries a request to an instance.
        policies: behaviour by service name; `default_policy` for the others.
        filters: narrow the instances of each call, in order; lanes are one. Then the service's.
        interceptors: stand around each call, in order, the client's outside the service's.
        make_balancer: makes the balancer of a service.
        tracing, metrics, recent: told of calls.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        discovery: DiscoverySnapshot,
        connections: Connections,
        *,
        policies: Mapping[str, ServicePolicy],
        default_policy: ServicePolicy,
        filters: Sequence[InstanceFilter],
        service_filters: Mapping[str, Sequence[InstanceFilter]],
        interceptors: Sequence[Interceptor | RequestInterceptor],
        service_interceptors: Mapping[str, Sequence[Interceptor | RequestInterceptor]],
        make_balancer: BalancerMaker,
        tracing: Tracing,
        metrics: CallMetrics,
        recent: RecentCalls,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.discovery = discovery
        self.recent = recent
        self._connections = connections
        self._policies = dict(policies)
        self._default_policy = default_policy
        self._filters = tuple(filters)
        self._service_filters = {name: tuple(own) for name, own in service_filters.items()}
        self._interceptors = chain(interceptors)
        self._service_interceptors = {
            name: chain(interceptors, own) for name, own in service_interceptors.items()
        }
        self._make_balancer = make_balancer
        self._tracing = tracing
        self._metrics = metrics
        self._clock = clock
        self._services: dict[str, Service] = {}

    async def send(
        self, service_name: str, request: httpx.Request, *, reading: bool = False
    ) -> httpx.Response:
        """The response of an instance, after as many attempts as the policy allows.

        Args:
            service_name: who is called.
            request: what is sent; only its address is replaced.
            reading: read the body within the call's time; else it is unread.

        Raises:
            ServiceCallError: see the tree in `errors`.
        """
        options: CallOptions = request.extensions.get("call_options", NO_OPTIONS)
        if not isinstance(request.stream, httpx.ByteStream | UploadStream):
            assert isinstance(request.stream, httpx.AsyncByteStream)  # noqa: S101 - async faces only
            request.stream = UploadStream(request.stream)
        policy = options.policy or self.policy(service_name)
        traced, measured = self._tracing.on, self._metrics.on
        call = Call(service_name, request, options, policy, reading, traced, measured)
        began = self._clock()
        outcome: int | BaseException = 0
        if measured:
            self._metrics.began(service_name)
        try:
            if traced:
                response = await self._traced(call)
            else:
                response = await self._intercepted(call)
            outcome = response.status_code
        except BaseException as error:
            outcome = error
            raise
        else:
            return response
        finally:
            self._note_end(call, began, outcome)

    @asynccontextmanager
    async def reserve(
        self, service_name: str, request: httpx.Request
    ) -> AsyncIterator[ServiceInstance]:
        """An instance for a connection of the caller's own, busy until the block ends.

        An `Exception` that leaves the block counts as a failure of the instance.

        Raises:
            NoInstanceCallError: nobody can be asked.
        """
        options: CallOptions = request.extensions.get("call_options", NO_OPTIONS)
        call = Call(service_name, request, options, options.policy or self.policy(service_name))
        service = self._services.get(service_name) or await self._open(service_name)
        trial = await self._begin(service, call)
        try:
            yield trial.lease.endpoint
        except BaseException as error:
            trial.end(error)
            raise
        trial.end(measured=False)

    def policy(self, service_name: str) -> ServicePolicy:
        """The behaviour of calls to the service."""
        return self._policies.get(service_name, self._default_policy)

    def breaker_states(self, service_name: str) -> dict[str, str]:
        """The breaker state of each instance that was called, by instance id."""
        service = self._services.get(service_name)
        breakers = service.breakers if service else {}
        return {name: str(breaker.current_state) for name, breaker in breakers.items()}

    def instances_changed(self, service_name: str, instances: tuple[ServiceInstance, ...]) -> None:
        """Let go of what was kept for instances that are no more."""
        self._connections.keep_only(service_name, {one.base_url for one in instances})
        if self.discovery.age(service_name) is None:
            self._services.pop(service_name, None)

    async def aclose(self) -> None:
        """Close discovery and connections."""
        await self.discovery.aclose()
        await self._connections.aclose()

    async def _traced(self, call: Call) -> httpx.Response:
        with self._tracing.call(call.service_name, call.request) as span:
            response = await self._intercepted(call)
            note_status(span, response.status_code)
            if len(call.attempts) > 1:
                span.set_attribute("http.request.resend_count", len(call.attempts) - 1)
            return response

    async def _intercepted(self, call: Call) -> httpx.Response:
        interceptors = self._service_interceptors.get(call.service_name, self._interceptors)
        if call.options.interceptors:
            interceptors += chain(call.options.interceptors)
        if not interceptors:
            return await self._within_time(call)
        return await through(
            interceptors, call.request, lambda request: self._within_time(call.again(request))
        )

    async def _within_time(self, call: Call) -> httpx.Response:
        total = call.total_seconds
        left = deadline.remaining()
        if left is not None and left < total:
            total = max(0.0, left)
        try:
            async with asyncio.timeout(total) as call.timer:
                with deadline(total):
                    response = await self._with_retries(call)
                    if call.read or response.status_code >= call.lowest_raised_status:
                        await read(response)
        except TimeoutError as error:
            if isinstance(error, ServiceCallError):
                raise
            raise CallTimeoutError(call.service_name, total, call.attempts) from error
        if response.status_code >= call.lowest_raised_status:
            raise CallStatusError(call.service_name, response, call.attempts)
        return response

    async def _with_retries(self, call: Call) -> httpx.Response:
        service = self._services.get(call.service_name) or await self._open(call.service_name)
        try:
            return await service.retry(call.policy).arun(self._attempt, service, call)
        except (TryElsewhereError, NoInstanceCallError) as last:
            if call.spare is None:
                raise self._final(call, last) from last.__cause__
            response, call.spare = call.spare, None
            return response
        finally:
            await call.keep_spare(None)

    async def _open(self, name: str) -> Service:
        # Only a service that discovery knows has a state: names alone must not fill the memory.
        await self._load(name)
        found = self._services.get(name)
        if found is None:
            found = self._services[name] = Service(
                name, self.policy(name), make_balancer=self._make_balancer, clock=self._clock
            )
        return found

    async def _load(self, name: str) -> tuple[ServiceInstance, ...]:
        try:
            return await self.discovery.load(name)
        except (ProviderError, OSError) as error:
            raise NoInstanceCallError(
                name, f"its instances cannot be found out: {error}"
            ) from error

    async def _attempt(self, service: Service, call: Call) -> httpx.Response:
        trial = await self._begin(service, call)
        instance = trial.lease.endpoint
        request = addressed(call.request, instance, call.policy)
        span = None
        if call.traced:
            span = self._tracing.attempt(request, instance, len(call.attempts) + 1)
        else:
            hand_on(request)
        try:
            if call.spare is not None:
                await call.keep_spare(None)
            response = await self._transmit(trial, call.policy, request)
        except BaseException as error:
            self._failed(call, trial, span, error)
            if isinstance(error, httpx.TransportError | TimeoutError):
                raise self._again_or(call, error) from error
            raise
        return await self._answered(service, call, trial, span, response)

    async def _begin(self, service: Service, call: Call) -> Trial:
        instances = self.discovery.known(service.name)
        if instances is None:
            instances = await self._load(service.name)
        if instances is not service.instances:
            service.follow(instances)
        lease, permit = self._choose(service, call)
        instance = lease.endpoint
        call.tried.add(instance.instance_id)
        return Trial(lease, permit, self._connections.pool(service.policy, instance), self._clock())

    def _choose(self, service: Service, call: Call) -> tuple[Lease[ServiceInstance], Permit]:
        left_out = self._left_out(service, call)
        resting = service.resting_now() if service.resting else set()
        refused: set[str] = set()
        while True:
            try:
                lease = service.balancer.acquire(
                    call.options.key, left_out | call.tried | resting | refused
                )
            except NoInstanceAvailableError as error:
                # Rather one that asked for a rest than nobody; rather one that was tried.
                if resting:
                    resting = set()
                elif call.tried:
                    call.tried.clear()
                else:
                    raise self._nobody(service, call, refused) from error
                continue
            try:
                permit = service.breaker(lease.endpoint.instance_id).acquire()
            except CircuitOpenError:
                refused.add(lease.endpoint.instance_id)
                lease.cancel()
            else:
                return lease, permit

    def _left_out(self, service: Service, call: Call) -> set[str]:
        filters = self._filters_of(service, call)
        if not filters:
            return set()
        eligible = service.eligible
        kept = admitted(eligible, filters, call)
        if len(kept) == len(eligible):
            return set()
        return {one.instance_id for one in eligible} - {one.instance_id for one in kept}

    def _filters_of(self, service: Service, call: Call) -> tuple[InstanceFilter, ...]:
        filters = self._filters
        if own := self._service_filters.get(service.name):
            filters += own
        if call.policy is not service.policy:
            filters += static_filters(call.policy)
        if call.options.filters:
            filters += tuple(call.options.filters)
        return filters

    def _nobody(self, service: Service, call: Call, refused: set[str]) -> NoInstanceCallError:
        left: Sequence[ServiceInstance] = service.instances
        if not left:
            return NoInstanceCallError(service.name, "none is registered", call.attempts)
        for narrow in (*service.static_filters, *self._filters_of(service, call)):
            before, left = left, narrow(left, call)
            if not left:
                reason = f"all {len(before)} left are filtered out by {_name_of(narrow)}"
                return NoInstanceCallError(service.name, reason, call.attempts)
        if refused:
            reason = f"the circuits of {', '.join(sorted(refused))} are open"
        elif not any(one.weight for one in left):
            reason = f"all {len(left)} left have weight 0"
        else:
            reason = f"all {len(left)} left are unhealthy, or of weight 0"
        return NoInstanceCallError(service.name, reason, call.attempts)

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
            seconds = call.attempts[-1].duration_seconds
            self._metrics.attempted(call.service_name, call.request.method, seconds, error)

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
            seconds = call.attempts[-1].duration_seconds
            self._metrics.attempted(call.service_name, call.request.method, seconds, status)
        response.request = call.request
        response.stream = LeasedStream(
            response,
            trial,
            service=service.name,
            attempts=call.attempts,
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
        busy = self._left_out(service, call) | call.tried | set(service.resting)
        others = any(one.instance_id not in busy for one in service.eligible)
        return None if others else asked

    def _final(self, call: Call, last: Exception) -> Exception:
        if isinstance(last, NoInstanceCallError):
            return last
        return CallFailedError(call.service_name, call.attempts)

    def _again_or(self, call: Call, error: Exception) -> Exception:
        never_sent = isinstance(error, NEVER_SENT)
        if call.replayable and (call.idempotent or never_sent):
            return TryElsewhereError()
        return CallFailedError(call.service_name, call.attempts)

    def _note(self, call: Call, trial: Trial, outcome: str) -> None:
        instance_id = trial.lease.endpoint.instance_id
        call.attempts.append(Attempt(instance_id, outcome, self._clock() - trial.began))

    def _note_end(self, call: Call, began: float, outcome: int | BaseException) -> None:
        now = self._clock()
        service, method = call.service_name, call.request.method
        self.recent.add(service, method, call.request.url, outcome, call.attempts, now - began, now)
        if call.measured:
            counted = outcome if isinstance(outcome, int | Exception) else None
            self._metrics.ended(service, method, now - began, counted, len(call.attempts))


def _name_of(narrow: InstanceFilter) -> str:
    return getattr(narrow, "__name__", type(narrow).__name__)
