"""The one way a call goes: discovery, filters, balancer, breaker, transport, and again elsewhere.

`AsyncServiceClient`, the httpx transports and declarative clients all come through `CallEngine`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial

import httpx

from microservice_client.discovery.instance_cache import InstanceCache
from microservice_client.errors import (
    CallFailedError,
    CallStatusError,
    CallTimeoutError,
    NoInstanceCallError,
    ServiceCallError,
)
from microservice_client.http.connections import Connections
from microservice_client.interceptors.chain import Interceptor, RequestInterceptor, chain, through
from microservice_client.policies import Policies
from microservice_client.policy import ServicePolicy
from microservice_client.telemetry.metrics import CallMetrics
from microservice_client.telemetry.tracing import Tracing, note_status
from microservice_core import (
    InstanceFilter,
    ServiceInstance,
)
from microservice_governance import (
    Bulkhead,
    BulkheadFullError,
    Fallback,
    LimitReachedError,
    deadline,
)

from .attempts import Attempts, rejected
from .call import NO_OPTIONS, Call, CallOptions, UploadStream
from .fallbacks import AnswerCache, FallbackAnswer, fallback_of
from .instance_selector import Choosing
from .recent_calls import RecentCalls
from .response_stream import LeasedStream, read
from .service import BalancerMaker, Service, TryElsewhereError

__all__ = ("CallEngine",)

CONNECTING = (
    "tls",
    "http2",
    "max_connections_per_instance",
    "max_idle_connections_per_instance",
    "idle_connection_seconds",
)


class CallEngine:
    """Sends requests to services by name.

    Args:
        discovery: who answers for each service.
        connections: what carries a request to an instance.
        policies: behaviour by service name.
        filters: narrow the instances of each call, in order; lanes are one. Then the service's.
        interceptors: stand around each call, in order, the client's outside the service's.
        fallbacks: what stands in for a service.
        make_balancer: makes the balancer of a service.
        tracing, metrics, recent: told of calls.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        discovery: InstanceCache,
        connections: Connections,
        *,
        policies: Policies,
        filters: Sequence[InstanceFilter],
        service_filters: Mapping[str, Sequence[InstanceFilter]],
        interceptors: Sequence[Interceptor | RequestInterceptor],
        service_interceptors: Mapping[str, Sequence[Interceptor | RequestInterceptor]],
        fallbacks: Mapping[str, FallbackAnswer],
        make_balancer: BalancerMaker,
        tracing: Tracing,
        metrics: CallMetrics,
        recent: RecentCalls,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.discovery = discovery
        self.recent = recent
        self._connections = connections
        self._policies = policies
        self._fallbacks = {name: fallback_of(answer) for name, answer in fallbacks.items()}
        self._answers = AnswerCache(clock=clock)
        self._attempts = Attempts(
            discovery,
            Choosing(filters, service_filters),
            connections,
            tracing=tracing,
            metrics=metrics,
            clock=clock,
        )
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
        began = self._clock()
        traced, measured = self._tracing.on(began), self._metrics.on(began)
        call = Call(service_name, request, options, policy, reading, traced, measured)
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
            if isinstance(error, ServiceCallError):
                error.request = request
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
        trial = await self._attempts.begin(service, call)
        try:
            yield trial.lease.endpoint
        except BaseException as error:
            trial.end(error)
            raise
        trial.end(measured=False)

    def policy(self, service_name: str) -> ServicePolicy:
        """The behaviour of calls to the service."""
        return self._policies.of(service_name)

    def apply(self, policies: Policies) -> None:
        """Let calls that begin from now on behave so; those under way keep what they have."""
        self._policies = policies
        for name, service in list(self._services.items()):
            policy = policies.of(name)
            if policy != service.policy:
                self._services[name] = self._new_service(name, policy, service)
                if any(getattr(policy, f) != getattr(service.policy, f) for f in CONNECTING):
                    self._connections.keep_only(name, ())

    def breaker_states(self, service_name: str) -> dict[str, str]:
        """The breaker state of each instance that was called, by instance id."""
        service = self._services.get(service_name)
        breakers = service.breakers if service else {}
        return {name: str(breaker.current_state) for name, breaker in tuple(breakers.items())}

    def instances_changed(self, service_name: str, instances: tuple[ServiceInstance, ...]) -> None:
        """Let go of what was kept for instances that are no more."""
        self._connections.keep_only(service_name, {one.base_url for one in instances})
        if self.discovery.age(service_name) is None:
            self._services.pop(service_name, None)

    async def aclose(self) -> None:
        """Close discovery and connections."""
        self._metrics.close()
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
            return await self._with_fallback(call)
        return await through(
            interceptors, call.request, lambda request: self._with_fallback(call.again(request))
        )

    async def _with_fallback(self, call: Call) -> httpx.Response:
        if call.policy.fallback_cache_seconds:
            return await self._with_last_answer(call)
        if call.options.fallback is not None:
            fallback: Fallback | None = fallback_of(call.options.fallback)
        else:
            fallback = self._fallbacks.get(call.service_name)
        if fallback is None:
            return await self._within_time(call)
        response = await fallback.arun(self._within_time, call)
        response.request = call.request
        return response

    async def _with_last_answer(self, call: Call) -> httpx.Response:
        name, request = call.service_name, call.request
        try:
            response = await self._within_time(call)
        except ServiceCallError:
            last = self._answers.find(name, request, call.policy.fallback_cache_seconds)
            if last is None:
                raise
            return last
        if call.reading:
            self._answers.keep(name, request, response)
        if response.status_code >= 500:
            last = self._answers.find(name, request, call.policy.fallback_cache_seconds)
            if last is not None:
                await response.aclose()
                return last
        return response

    async def _within_time(self, call: Call) -> httpx.Response:
        total = call.total_seconds
        left = deadline.remaining()
        if left is not None and left < total:
            total = max(0.0, left)
        try:
            async with asyncio.timeout(total) as call.timer:
                with deadline(total):
                    response = await self._admitted(call)
                    if call.reading or response.status_code >= call.lowest_raised_status:
                        await read(response)
        except TimeoutError as error:
            if isinstance(error, ServiceCallError):
                raise
            raise CallTimeoutError(call.service_name, total, call.attempts) from error
        if response.status_code >= call.lowest_raised_status:
            raise CallStatusError(call.service_name, response, call.attempts)
        return response

    async def _admitted(self, call: Call) -> httpx.Response:
        service = self._services.get(call.service_name) or await self._open(call.service_name)
        if service.bulkhead is None and service.adaptive_limit is None:
            return await self._with_retries(service, call)
        try:
            if service.bulkhead is None:
                return await self._borne(service, call)
            return await self._placed(service, service.bulkhead, call)
        except (BulkheadFullError, LimitReachedError) as error:
            raise rejected(call, error, self._metrics) from error

    async def _placed(self, service: Service, bulkhead: Bulkhead, call: Call) -> httpx.Response:
        await bulkhead.__aenter__()
        leave = partial(bulkhead.__exit__, None, None, None)
        try:
            response = await self._borne(service, call)
        except BaseException:
            leave()
            raise
        assert isinstance(response.stream, LeasedStream)  # noqa: S101 - every attempt's is one
        # The place is kept until the body was read, which may be long after this returns.
        response.stream.when_closed(leave)
        return response

    async def _borne(self, service: Service, call: Call) -> httpx.Response:
        if service.adaptive_limit is None:
            return await self._with_retries(service, call)
        return await service.adaptive_limit.arun(self._with_retries, service, call)

    async def _with_retries(self, service: Service, call: Call) -> httpx.Response:
        attempt = self._attempts.make
        if call.policy.hedge_after_seconds is not None and call.idempotent and call.replayable:
            attempt = self._attempts.make_hedged
        try:
            return await service.retry(call.policy).arun(attempt, service, call)
        except (TryElsewhereError, NoInstanceCallError) as last:
            if call.spare is None:
                raise self._final(call, last) from last.__cause__
            response, call.spare = call.spare, None
            return response
        finally:
            await call.keep_spare(None)

    async def _open(self, name: str) -> Service:
        # Only a service that discovery knows has a state: names alone must not fill the memory.
        await self._attempts.load(name)
        found = self._services.get(name)
        if found is None:
            found = self._services[name] = self._new_service(name, self.policy(name), None)
        return found

    def _new_service(self, name: str, policy: ServicePolicy, before: Service | None) -> Service:
        return Service(
            name,
            policy,
            make_balancer=self._make_balancer,
            clock=self._clock,
            before=before,
        )

    def _final(self, call: Call, last: Exception) -> Exception:
        if isinstance(last, NoInstanceCallError):
            return last
        return CallFailedError(call.service_name, call.attempts)

    def _note_end(self, call: Call, began: float, outcome: int | BaseException) -> None:
        now = self._clock()
        request, tried, seconds = call.request, call.attempts, now - began
        service, method = call.service_name, request.method
        # By name: an error kept would keep its traceback, and with it everything in sight.
        said = outcome if isinstance(outcome, int) else _name_of(outcome)
        labels = request.extensions.get("call_labels")
        self.recent.add(service, method, request.url, said, tried, seconds, now, labels)
        if call.measured:
            counted = outcome if isinstance(outcome, int | Exception) else None
            self._metrics.ended(service, method, seconds, counted, len(tried))


def _name_of(error: BaseException) -> str:
    return type(error).__name__ if isinstance(error, Exception) else "cancelled"
