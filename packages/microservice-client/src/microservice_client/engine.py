"""The one way a call goes: discovery, filters, balancer, breaker, transport, and again elsewhere.

`AsyncServiceClient`, the httpx transports and declarative clients all come through `CallEngine`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import httpx
from opentelemetry.trace import TracerProvider, get_tracer

from microservice_core import InstanceFilter, NoInstanceAvailableError, ServiceInstance
from microservice_governance import (
    BreakerConfig,
    CircuitBreaker,
    CircuitOpenError,
    ExponentialBackoff,
    Permit,
    Retry,
    RetryBudget,
    RetryConfig,
    deadline,
)
from microservice_lb import Balancer, Lease, create

from .discovery import DiscoverySnapshot
from .errors import Attempt, CallFailedError, CallTimeoutError, NoInstanceCallError
from .policy import ServicePolicy
from .streams import LeasedStream
from .telemetry import CallSpan

__all__ = ("CallEngine", "RequestInterceptor")

RequestInterceptor = Callable[[httpx.Request], None]

IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


class FailedStatusError(Exception):
    """A status of 500 or above, told to breaker and balancer; never raised."""


class TryElsewhereError(Exception):
    """An attempt failed and another one is allowed; never leaves the engine."""


class Service:
    """What the engine holds for one service: balancer, retry, a breaker per instance."""

    def __init__(self, name: str, policy: ServicePolicy, clock: Callable[[], float]) -> None:
        self.name = name
        self.policy = policy
        self.balancer: Balancer[ServiceInstance] = create(policy.balancer, name=name, clock=clock)
        self.retry = Retry(
            RetryConfig(
                on=(TryElsewhereError,),
                attempts=policy.attempts,
                backoff=ExponentialBackoff(initial_seconds=policy.backoff_seconds),
            ),
            budget=RetryBudget(),
        )
        self.breakers: dict[str, CircuitBreaker] = {}
        self._breaker_config = BreakerConfig(
            failure_rate_threshold=None,
            consecutive_failures=policy.breaker_failures,
            open_seconds=policy.breaker_open_seconds,
            max_open_seconds=policy.breaker_open_seconds,
            permitted_half_open_calls=1,
        )
        self._clock = clock
        self._instances: tuple[ServiceInstance, ...] = ()

    def follow(self, instances: tuple[ServiceInstance, ...]) -> None:
        """Let balancer and breakers know the instances of now."""
        if instances is self._instances:
            return
        self.balancer.update(instances)
        self._instances = instances
        present = {instance.instance_id for instance in instances}
        self.breakers = {key: kept for key, kept in self.breakers.items() if key in present}

    def breaker(self, instance_id: str) -> CircuitBreaker:
        """The breaker of one instance."""
        found = self.breakers.get(instance_id)
        if found is None:
            name = f"{self.name} {instance_id}"
            found = CircuitBreaker(name, self._breaker_config, clock=self._clock)
            self.breakers[instance_id] = found
        return found


@dataclass(slots=True)
class Call:
    """One call under way; what a filter may know of it."""

    service_name: str
    request: httpx.Request
    attempts: list[Attempt] = field(default_factory=list)
    tried: set[str] = field(default_factory=set)
    spare: httpx.Response | None = None

    async def discard_spare(self) -> None:
        """Close the response of an attempt that another one replaces."""
        spare, self.spare = self.spare, None
        if spare is not None:
            await spare.aclose()

    @property
    def headers(self) -> Mapping[str, str]:
        """The request's headers."""
        return self.request.headers

    @property
    def replayable(self) -> bool:
        """Whether the body can be sent a second time."""
        return isinstance(self.request.stream, httpx.ByteStream)

    @property
    def idempotent(self) -> bool:
        """Whether sending it twice does no harm: by method, or because it says so itself."""
        return self.request.method in IDEMPOTENT or "Idempotency-Key" in self.request.headers


@dataclass(frozen=True, slots=True)
class Trial:
    """One attempt under way: the instance, leave to call it, since when."""

    lease: Lease[ServiceInstance]
    permit: Permit
    began: float


class CallEngine:
    """Sends requests to services by name.

    Args:
        discovery: who answers for each service.
        transport: what sends a request once its URL names an instance.
        policies: behaviour by service name; `default_policy` for the others.
        filters: narrow the instances of each call, in order; lanes are one.
        interceptors: see and may change each request before an instance is chosen.
        tracer_provider: where spans go; the global one by default.
    """

    def __init__(
        self,
        discovery: DiscoverySnapshot,
        transport: httpx.AsyncBaseTransport,
        *,
        policies: Mapping[str, ServicePolicy] | None = None,
        default_policy: ServicePolicy | None = None,
        filters: Sequence[InstanceFilter] = (),
        interceptors: Sequence[RequestInterceptor] = (),
        tracer_provider: TracerProvider | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tracer = get_tracer("microservice_client", tracer_provider=tracer_provider)
        self._discovery = discovery
        self._transport = transport
        self._policies = dict(policies or {})
        self._default_policy = default_policy or ServicePolicy()
        self._filters = tuple(filters)
        self._interceptors = tuple(interceptors)
        self._clock = clock
        self._services: dict[str, Service] = {}

    async def send(self, service_name: str, request: httpx.Request) -> httpx.Response:
        """The response of an instance, after as many attempts as the policy allows.

        Raises:
            NoInstanceCallError: nobody could be asked.
            CallTimeoutError: the total time is over.
            CallFailedError: everyone who was asked failed.
        """
        service = self._service(service_name)
        call = Call(service_name, request)
        for intercept in self._interceptors:
            intercept(request)
        total = _total_seconds(request, service.policy)
        with CallSpan(self._tracer, service_name, request) as span:
            try:
                async with asyncio.timeout(total):
                    with deadline(total):
                        response = await self._with_retries(service, call)
            except TimeoutError as error:
                raise CallTimeoutError(service_name, total, call.attempts) from error
            span.answered(response, len(call.attempts))
            return response

    def breaker_states(self, service_name: str) -> dict[str, str]:
        """The breaker state of each instance that was called, by instance id."""
        service = self._services.get(service_name)
        breakers = service.breakers if service else {}
        return {name: str(breaker.current_state) for name, breaker in breakers.items()}

    async def aclose(self) -> None:
        """Close discovery and the transport."""
        await self._discovery.aclose()
        await self._transport.aclose()

    def _service(self, name: str) -> Service:
        found = self._services.get(name)
        if found is None:
            policy = self._policies.get(name, self._default_policy)
            found = Service(name, policy, self._clock)
            self._services[name] = found
        return found

    async def _with_retries(self, service: Service, call: Call) -> httpx.Response:
        try:
            return await service.retry.arun(self._attempt, service, call)
        except (TryElsewhereError, NoInstanceCallError) as last:
            if call.spare is None:
                raise self._final(call, last) from last.__cause__
            response, call.spare = call.spare, None
            return response
        finally:
            await call.discard_spare()

    async def _attempt(self, service: Service, call: Call) -> httpx.Response:
        instances = self._discovery.known(service.name)
        if instances is None:
            instances = await self._discovery.load(service.name)
        service.follow(instances)
        lease, permit = self._choose(service, call, instances)
        trial = Trial(lease, permit, self._clock())
        try:
            await call.discard_spare()
            response = await self._transmit(lease.endpoint, service.policy, call.request)
        except BaseException as error:
            self._failed(call, trial, error)
            if isinstance(error, httpx.TransportError | TimeoutError):
                raise self._again_or(call, error) from error
            raise
        return self._answered(service.policy, call, trial, response)

    def _choose(
        self, service: Service, call: Call, instances: tuple[ServiceInstance, ...]
    ) -> tuple[Lease[ServiceInstance], Permit]:
        exclude = self._left_out(call, instances)
        refused: set[str] = set()
        while True:
            try:
                lease = service.balancer.acquire(exclude=exclude | call.tried | refused)
            except NoInstanceAvailableError as error:
                if call.tried:
                    call.tried.clear()  # everyone was tried once: begin another round
                    continue
                reason = _why_nobody(instances, exclude, refused)
                raise NoInstanceCallError(service.name, reason, call.attempts) from error
            try:
                permit = service.breaker(lease.endpoint.instance_id).acquire()
            except CircuitOpenError:
                refused.add(lease.endpoint.instance_id)
                lease.cancel()
            else:
                return lease, permit

    def _left_out(self, call: Call, instances: tuple[ServiceInstance, ...]) -> set[str]:
        admitted: Sequence[ServiceInstance] = [
            one for one in instances if one.enabled and one.healthy
        ]
        for narrow in self._filters:
            admitted = narrow(admitted, call)
        if len(admitted) == len(instances):
            return set()
        kept = {instance.instance_id for instance in admitted}
        return {one.instance_id for one in instances if one.instance_id not in kept}

    async def _transmit(
        self, instance: ServiceInstance, policy: ServicePolicy, request: httpx.Request
    ) -> httpx.Response:
        addressed = _addressed(request, instance, policy)
        async with asyncio.timeout(policy.attempt_timeout_seconds):
            return await self._transport.handle_async_request(addressed)

    def _failed(self, call: Call, trial: Trial, error: BaseException) -> None:
        trial.permit.release(error)
        trial.lease.release(error)
        self._note(call, trial, type(error).__name__)

    def _answered(
        self, policy: ServicePolicy, call: Call, trial: Trial, response: httpx.Response
    ) -> httpx.Response:
        status = response.status_code
        trial.permit.release(FailedStatusError(status) if status >= 500 else None)
        self._note(call, trial, str(status))
        assert isinstance(response.stream, httpx.AsyncByteStream)  # noqa: S101 - it came async
        response.stream = LeasedStream(response.stream, trial.lease)
        if status in policy.retry_statuses and call.replayable and call.idempotent:
            call.spare = response
            raise TryElsewhereError
        return response

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
        call.tried.add(instance_id)
        call.attempts.append(Attempt(instance_id, outcome, self._clock() - trial.began))


def _addressed(
    request: httpx.Request, instance: ServiceInstance, policy: ServicePolicy
) -> httpx.Request:
    """The same request to that instance; the URL given by the caller stays as it is."""
    url = request.url.copy_with(
        scheme="https" if instance.secure else "http", host=instance.ip, port=instance.port
    )
    headers = request.headers.copy()
    headers["Host"] = url.netloc.decode("ascii")
    timeout = {**request.extensions.get("timeout", {})}
    timeout["connect"] = min(timeout.get("connect") or 1e9, policy.connect_timeout_seconds)
    extensions = {**request.extensions, "timeout": timeout}
    return httpx.Request(
        request.method, url, headers=headers, stream=request.stream, extensions=extensions
    )


def _total_seconds(request: httpx.Request, policy: ServicePolicy) -> float:
    given = request.extensions.get("total_timeout_seconds")
    return policy.total_timeout_seconds if given is None else float(given)


def _why_nobody(instances: Sequence[ServiceInstance], left_out: set[str], refused: set[str]) -> str:
    if not instances:
        return "none is registered"
    if len(left_out) == len(instances):
        return f"all {len(instances)} are unhealthy, disabled or filtered out"
    if refused:
        return f"the circuits of {', '.join(sorted(refused))} are open"
    return "those that are left have weight 0"
