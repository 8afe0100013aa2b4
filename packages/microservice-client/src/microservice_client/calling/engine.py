"""The path of every call: interceptors, time limit, concurrency limits, retries, attempts.

`AsyncServiceClient`, the httpx transports and declarative clients all call `CallEngine.send`, whose
methods are in the order in which a call passes them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import cast

import httpx

from microservice_client.call_options import NO_OPTIONS, CallOptions, FallbackResponse
from microservice_client.discovery.instance_cache import InstanceCache
from microservice_client.errors import (
    CallFailedError,
    CallStatusError,
    CallTimeoutError,
    NoFreeConnectionError,
    NoInstanceCallError,
    ServiceCallError,
)
from microservice_client.http.connections import Connections
from microservice_client.http.request_rules import require_sendable
from microservice_client.interceptors.chain import (
    Interceptor,
    RequestInterceptor,
    build_chain,
    send_through,
)
from microservice_client.policies import Policies
from microservice_client.policy import CONNECTION_FIELDS, RaiseOn
from microservice_client.telemetry.metrics import CallMetrics
from microservice_client.telemetry.sdk_check import SdkCheck
from microservice_client.telemetry.tracing import Tracing, record_status
from microservice_core import InstanceFilter, ServiceInstance
from microservice_governance import BulkheadFullError, Fallback, LimitReachedError, deadline

from .attempts import AttemptRunner, build_rejected_error
from .blame import Blame, find_blame
from .call import Call
from .fallbacks import ResponseCache, build_fallback, require_response
from .instance_selector import InstanceSelector
from .recent_calls import RecentCalls
from .reservation import NOT_COUNTED, ReservedBody, read_response
from .retryable import RetryableAttemptError, UploadStream, is_idempotent
from .service import BalancerFactory, Service
from .stats import ServiceStats

__all__ = ("CallEngine",)

_LOWEST_RAISED_STATUS: dict[RaiseOn, int] = {"never": 1000, "server_errors": 500, "errors": 400}


class CallEngine:
    """Sends requests to services by name.

    Args:
        cache: the instances of each service.
        connections: send requests to instances.
        policies: the settings by service name.
        filters: narrow the instances of each call, in order, e.g. by lane.
        service_filters: further filters by service name.
        interceptors: run around each call, in order.
        service_interceptors: run inside them, by service name.
        fallbacks: replace the response of a failed call, by service name.
        make_balancer: makes the balancer of a service.
        tracing: makes the spans.
        metrics: records calls.
        sdk: whether spans and metrics are wanted.
        recent: keeps the last calls.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        cache: InstanceCache,
        connections: Connections,
        *,
        policies: Policies,
        filters: Sequence[InstanceFilter],
        service_filters: Mapping[str, Sequence[InstanceFilter]],
        interceptors: Sequence[Interceptor | RequestInterceptor],
        service_interceptors: Mapping[str, Sequence[Interceptor | RequestInterceptor]],
        fallbacks: Mapping[str, FallbackResponse],
        make_balancer: BalancerFactory,
        tracing: Tracing,
        metrics: CallMetrics,
        sdk: SdkCheck,
        recent: RecentCalls,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.cache = cache
        self.recent = recent
        self._connections = connections
        self._policies = policies
        self._fallbacks = {name: build_fallback(item) for name, item in fallbacks.items()}
        self._last_responses = ResponseCache(clock=clock)
        self._attempts = AttemptRunner(
            cache,
            InstanceSelector(filters, service_filters),
            connections,
            tracing=tracing,
            metrics=metrics,
            clock=clock,
        )
        self._interceptors = build_chain(interceptors)
        self._service_interceptors = {
            name: build_chain(interceptors, items) for name, items in service_interceptors.items()
        }
        self._make_balancer = make_balancer
        self._tracing = tracing
        self._metrics = metrics
        self._sdk = sdk
        self._clock = clock
        self._services: dict[str, Service] = {}

    async def send(
        self, service_name: str, request: httpx.Request, *, reading: bool = False
    ) -> httpx.Response:
        """Call a service and return the response, after as many attempts as the policy allows.

        Args:
            service_name: the service to call.
            request: the request; only its address is replaced.
            reading: read the body within the call's time limit; otherwise it is unread.

        Raises:
            ServiceCallError: see the tree in `errors`.
            TypeError: the request's body can only be read synchronously.
        """
        options: CallOptions = request.extensions.get("call_options", NO_OPTIONS)
        if not isinstance(request.stream, httpx.ByteStream | UploadStream):
            request.stream = _wrap_upload(request)
        service, sdk, began = self._services.get(service_name), self._sdk, self._clock()
        policy = options.policy
        if policy is None:
            policy = service.policy if service is not None else self._policies.get(service_name)
        if began >= sdk.due:
            sdk.refresh(began)
        call = Call(service_name, request, options, policy, reading, sdk.traced, sdk.measured)
        outcome: int | BaseException = 0
        if call.measured:
            self._metrics.record_call_start(service_name)
        try:
            if call.traced:
                response = await self._trace(call)
            else:
                response = await self._intercept(call)
            outcome = response.status_code
        except BaseException as error:
            outcome = error
            if isinstance(error, ServiceCallError):
                error.request = request
            raise
        else:
            return response
        finally:
            self._record_end(call, began, outcome)

    async def _trace(self, call: Call) -> httpx.Response:
        with self._tracing.call_span(call.service_name, call.request) as span:
            response = await self._intercept(call)
            record_status(span, response.status_code)
            if len(call.attempts) > 1:
                span.set_attribute("http.request.resend_count", len(call.attempts) - 1)
            return response

    async def _intercept(self, call: Call) -> httpx.Response:
        interceptors = self._service_interceptors.get(call.service_name, self._interceptors)
        if call.options.interceptors:
            interceptors += build_chain(call.options.interceptors)
        if not interceptors:
            return await self._with_fallback(call)
        return await send_through(
            interceptors, call.request, lambda request: self._with_fallback(call.restart(request))
        )

    async def _with_fallback(self, call: Call) -> httpx.Response:
        if call.policy.fallback_cache_seconds:
            return await self._with_last_response(call)
        if call.options.fallback is not None:
            fallback: Fallback | None = build_fallback(call.options.fallback)
        else:
            fallback = self._fallbacks.get(call.service_name)
        if fallback is None:
            return await self._with_deadline(call)
        response = require_response(await fallback.arun(self._with_deadline, call))
        response.request = call.request
        return response

    async def _with_last_response(self, call: Call) -> httpx.Response:
        name, request = call.service_name, call.request
        max_age = call.policy.fallback_cache_seconds
        try:
            response = await self._with_deadline(call)
        except ServiceCallError:
            last = self._last_responses.find(name, request, max_age)
            if last is None:
                raise
            return last
        if call.reading:
            self._last_responses.store(name, request, response)
        if response.status_code >= 500:
            last = self._last_responses.find(name, request, max_age)
            if last is not None:
                await response.aclose()
                return last
        return response

    async def _with_deadline(self, call: Call) -> httpx.Response:
        options, policy = call.options, call.policy
        call.raw_headers = require_sendable(call.request)
        total = options.total_timeout_seconds
        if total is None:
            total = policy.total_timeout_seconds
        remaining = deadline.remaining()
        call.has_inherited_deadline = remaining is not None and remaining < total
        if remaining is not None and remaining < total:
            total = max(0.0, remaining)
        raised_from = _LOWEST_RAISED_STATUS[options.raise_on or policy.raise_on]
        try:
            async with asyncio.timeout(total) as call.timer:
                with deadline(total):
                    response = await self._with_concurrency_limits(call)
                    if call.reading or response.status_code >= raised_from:
                        await read_response(response)
        except TimeoutError as error:
            # It may also be of the caller's body, or of an attempt that ended in the same moment.
            if isinstance(error, ServiceCallError) or not call.has_timed_out():
                raise
            if call.connection_wait is not None:
                raise call.no_connection_error(call.connection_wait, self._clock()) from error
            raise CallTimeoutError(call.service_name, total, call.attempts) from error
        if response.status_code >= raised_from:
            raise CallStatusError(call.service_name, response, call.attempts)
        return response

    async def _with_concurrency_limits(self, call: Call) -> httpx.Response:
        """Bulkhead outside, adaptive limit inside: waiting for the bulkhead is no latency."""
        service = self._services.get(call.service_name) or await self._open(call.service_name)
        bulkhead, limit = service.bulkhead, service.adaptive_limit
        if bulkhead is None and limit is None:
            return await self._with_retries(service, call)
        try:
            if bulkhead is not None:
                await bulkhead.__aenter__()
            try:
                if limit is None:
                    response = await self._with_retries(service, call)
                else:
                    response = await limit.arun(self._with_retries, service, call)
            except BaseException:
                if bulkhead is not None:
                    bulkhead.__exit__(None, None, None)
                raise
        except (BulkheadFullError, LimitReachedError) as error:
            raise build_rejected_error(call, error, self._metrics) from error
        if bulkhead is not None:
            # The place in the bulkhead is held until the body was read, long after this returns.
            body = cast("ReservedBody", response.stream)
            body.on_close(partial(bulkhead.__exit__, None, None, None))
        return response

    async def _with_retries(self, service: Service, call: Call) -> httpx.Response:
        policy, attempt = call.policy, self._attempts.run
        if (
            policy.hedge_after_seconds is not None
            and is_idempotent(call.request, call.options)
            and isinstance(call.request.stream, httpx.ByteStream)  # read by two at the same time
        ):
            attempt = self._attempts.run_hedged
        retry = service.retry if policy is service.policy else service.find_retry(policy)
        try:
            return await retry.arun(attempt, service, call)
        except (RetryableAttemptError, NoInstanceCallError, NoFreeConnectionError) as error:
            if call.last_response is not None:
                # No attempt was better than this one, so its error status is the response.
                response, call.last_response = call.last_response, None
                return response
            if not isinstance(error, RetryableAttemptError):
                raise
            raise CallFailedError(call.service_name, call.attempts) from error.__cause__
        finally:
            if call.last_response is not None:
                await call.replace_last_response(None)

    async def _open(self, name: str) -> Service:
        # The state of a service is kept only once discovery has loaded it: a stream of unknown
        # names must not fill the memory.
        await self._attempts.load_instances(name)
        service = self._services.get(name)
        if service is None:
            service = self._services[name] = Service(
                name,
                self._policies.get(name),
                make_balancer=self._make_balancer,
                clock=self._clock,
            )
        return service

    def _record_end(self, call: Call, began: float, outcome: int | BaseException) -> None:
        now = self._clock()
        request, attempts, seconds = call.request, call.attempts, now - began
        service, method = call.service_name, request.method
        # By name: a stored error would keep its traceback, and with it every local in its frames.
        result = outcome if isinstance(outcome, int) else _outcome_name(outcome)
        labels = request.extensions.get("call_labels")
        self.recent.add((service, method, request.url, result, attempts, seconds, now, labels))
        if call.measured:
            recorded = outcome if isinstance(outcome, int | Exception) else None
            self._metrics.record_call_end(service, method, seconds, recorded, len(attempts))

    @asynccontextmanager
    async def reserve(
        self, service_name: str, request: httpx.Request
    ) -> AsyncIterator[ServiceInstance]:
        """Hold an instance for a connection of the caller's own until the block ends.

        A connection error (an `OSError`) that leaves the block counts as a failure of the instance.

        Raises:
            NoInstanceCallError: no instance can be called.
        """
        options: CallOptions = request.extensions.get("call_options", NO_OPTIONS)
        service = self._services.get(service_name) or await self._open(service_name)
        call = Call(service_name, request, options, options.policy or service.policy)
        reservation = await self._attempts.reserve(service, call)
        try:
            yield reservation.lease.endpoint
        except BaseException as error:
            reservation.release(error if find_blame(error, call) is Blame.INSTANCE else NOT_COUNTED)
            raise
        reservation.release(measured=False)

    def apply_policies(self, policies: Policies) -> None:
        """Use these policies for calls that start from now on; calls in flight keep theirs."""
        self._policies = policies
        for name, previous in list(self._services.items()):
            policy = policies.get(name)
            if policy != previous.policy:
                self._services[name] = Service(
                    name,
                    policy,
                    make_balancer=self._make_balancer,
                    clock=self._clock,
                    previous=previous,
                )
                old = previous.policy
                if any(
                    getattr(policy, field) != getattr(old, field) for field in CONNECTION_FIELDS
                ):
                    self._connections.keep_only(name, ())

    def apply_instances(self, service_name: str, instances: tuple[ServiceInstance, ...]) -> None:
        """Drop what is held for instances that are gone."""
        base_urls = {instance.base_url for instance in instances}
        self._connections.keep_only(service_name, base_urls)
        if self.cache.age(service_name) is None:
            self._services.pop(service_name, None)

    def breaker_states(self, service_name: str) -> dict[str, str]:
        """The breaker state of each instance that was called, by instance id."""
        service = self._services.get(service_name)
        breakers = service.breakers if service else {}
        return {name: str(breaker.current_state) for name, breaker in tuple(breakers.items())}

    def stats(self, service_name: str) -> ServiceStats | None:
        """What is held for the service; None if it was not called."""
        service = self._services.get(service_name)
        if service is None:
            return None
        now, balancer = self._clock(), service.balancer
        cooling = tuple(service.cooling_until.items())
        ids = [instance.instance_id for instance in service.instances]
        return ServiceStats(
            active_calls={name: balancer.active(name) for name in ids},
            breaker_states=self.breaker_states(service_name),
            cooling_seconds={name: until - now for name, until in cooling if until > now},
            connection_pools=self._connections.pooled_urls(service_name),
            cached_policies=service.cached_policies,
        )

    async def aclose(self) -> None:
        """Close discovery and connections."""
        self._metrics.close()
        await self.cache.aclose()
        await self._connections.aclose()


def _wrap_upload(request: httpx.Request) -> UploadStream:
    if not isinstance(request.stream, httpx.AsyncByteStream):
        raise TypeError("an async client needs a body that can be read asynchronously")
    declared = request.headers.get("content-length", "")
    return UploadStream(request.stream, int(declared) if _is_number(declared) else None)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 20


def _outcome_name(error: BaseException) -> str:
    return type(error).__name__ if isinstance(error, Exception) else "cancelled"
