"""What the engine holds for one service: balancer, retry, a breaker for each instance."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from microservice_client.discovery.filters import enabled, labels, version_range
from microservice_client.errors import CallFailedError, NoInstanceCallError
from microservice_client.policy import ServicePolicy
from microservice_core import InstanceFilter, RequestContext, ServiceInstance
from microservice_governance import (
    AdaptiveLimit,
    BreakerConfig,
    Bulkhead,
    CircuitBreaker,
    ExponentialBackoff,
    Hedge,
    RateLimiter,
    Retry,
    RetryBudget,
    RetryConfig,
)
from microservice_lb import (
    Balancer,
    HealthFilter,
    SlowStart,
    WeightFilter,
    ZonePreference,
    create,
)

__all__ = ("BalancerMaker", "Service", "TryElsewhereError", "staged_balancer")

BalancerMaker = Callable[[str, ServicePolicy], Balancer[ServiceInstance]]
"""Makes the balancer of a service, by its name and policy."""

_MOST_RETRIES = 64
_BALANCER_FIELDS = ("balancer", "zone", "panic_threshold", "slow_start_seconds")
_BREAKER_FIELDS = ("breaker_failures", "breaker_open_seconds")
_BUDGET_FIELDS = ("retry_budget_ratio", "retry_budget_per_second")


class TryElsewhereError(Exception):
    """An attempt failed and another one is allowed; never leaves the engine.

    Attributes:
        retry_after: seconds to wait before, when everybody asked for that.
    """

    def __init__(self, retry_after: float | None = None) -> None:
        super().__init__()
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class NoCall:
    """The context of filters that look at no call."""

    service_name: str
    headers: Mapping[str, str] = field(default_factory=dict)


class Service:
    """The state of one service.

    Args:
        name: the service's name.
        policy: its behaviour.
        before: the state under an earlier policy; what the new one leaves as it is, is taken over.
        make_balancer: makes the balancer.
        clock: monotonic seconds.

    Attributes:
        instances: all that the last snapshot had.
        eligible: those of them that the policy's own filters admit.
        resting: until when an instance asked to be left alone, by id.
    """

    def __init__(
        self,
        name: str,
        policy: ServicePolicy,
        *,
        make_balancer: BalancerMaker,
        clock: Callable[[], float],
        before: Service | None = None,
    ) -> None:
        self.name = name
        self.policy = policy
        self.resting: dict[str, float] = {}
        self.instances: tuple[ServiceInstance, ...] = ()
        self.eligible: tuple[ServiceInstance, ...] = ()
        self.static_filters = static_filters(policy)
        self.balancer = _balancer(name, policy, before, make_balancer)
        self.breakers = _breakers(policy, before)
        self.budget = _budget(policy, before)
        self.bulkhead = _bulkhead(name, policy, before)
        self.adaptive_limit = _adaptive_limit(name, policy, before, clock)
        self.limiter = _limiter(name, policy, before, clock)
        self._clock = clock
        self._retries: dict[tuple[int, float, float], Retry] = {}
        self._hedges: dict[tuple[float, int], Hedge] = {}
        self._breaker_config = breaker_config(policy)

    def follow(self, instances: tuple[ServiceInstance, ...]) -> None:
        """Let balancer and breakers know the instances of now."""
        self.eligible = tuple(admitted(instances, self.static_filters, NoCall(self.name)))
        self.balancer.update(self.eligible)
        self.instances = instances
        present = {instance.instance_id for instance in instances}
        self.breakers = {key: kept for key, kept in self.breakers.items() if key in present}
        self.resting = {key: until for key, until in self.resting.items() if key in present}

    def breaker(self, instance_id: str) -> CircuitBreaker:
        """The breaker of one instance."""
        found = self.breakers.get(instance_id)
        if found is None:
            name = f"{self.name} {instance_id}"
            found = CircuitBreaker(name, self._breaker_config, clock=self._clock)
            self.breakers[instance_id] = found
        return found

    def retry(self, policy: ServicePolicy) -> Retry:
        """The retry of a policy; all share the service's budget."""
        key = (policy.attempts, policy.backoff_seconds, policy.max_retry_after_seconds)
        found = self._retries.get(key)
        if found is None:
            if len(self._retries) >= _MOST_RETRIES:
                self._retries.clear()
            found = self._retries[key] = Retry(retry_config(policy), budget=self.budget)
        return found

    def hedge(self, policy: ServicePolicy) -> Hedge | None:
        """The hedge of a policy; None when it has none, or nobody else could be asked."""
        if policy.hedge_after_seconds is None or len(self.eligible) < 2:
            return None
        key = (policy.hedge_after_seconds, policy.hedge_attempts)
        found = self._hedges.get(key)
        if found is None:
            if len(self._hedges) >= _MOST_RETRIES:
                self._hedges.clear()
            found = self._hedges[key] = Hedge(
                delay=policy.hedge_after_seconds,
                attempts=policy.hedge_attempts,
                on=(TryElsewhereError, NoInstanceCallError),
                name=self.name,
            )
        return found

    def rest(self, instance_id: str, seconds: float) -> None:
        """Leave an instance alone for a while, as long as there are others."""
        self.resting[instance_id] = self._clock() + seconds

    def resting_now(self) -> set[str]:
        """The ids of those to leave alone."""
        now = self._clock()
        self.resting = {key: until for key, until in self.resting.items() if until > now}
        return set(self.resting)


def _same(before: Service, policy: ServicePolicy, fields: Sequence[str]) -> bool:
    return all(getattr(before.policy, name) == getattr(policy, name) for name in fields)


def _balancer(
    name: str, policy: ServicePolicy, before: Service | None, make: BalancerMaker
) -> Balancer[ServiceInstance]:
    if before is not None and _same(before, policy, _BALANCER_FIELDS):
        return before.balancer
    return make(name, policy)


def _breakers(policy: ServicePolicy, before: Service | None) -> dict[str, CircuitBreaker]:
    if before is not None and _same(before, policy, _BREAKER_FIELDS):
        return before.breakers
    return {}


def _budget(policy: ServicePolicy, before: Service | None) -> RetryBudget:
    if before is not None and _same(before, policy, _BUDGET_FIELDS):
        return before.budget
    return RetryBudget(policy.retry_budget_ratio, min_per_second=policy.retry_budget_per_second)


def _limiter(
    name: str, policy: ServicePolicy, before: Service | None, clock: Callable[[], float]
) -> RateLimiter | None:
    if before is not None and before.policy.rate_limit == policy.rate_limit:
        return before.limiter
    if policy.rate_limit is None:
        return None
    return RateLimiter(policy.rate_limit, name=f"calls of {name}", clock=clock)


def _bulkhead(name: str, policy: ServicePolicy, before: Service | None) -> Bulkhead | None:
    config = policy.bulkhead
    if config is None:
        return None
    if before is not None and before.bulkhead is not None:
        before.bulkhead.reconfigure(config)  # those inside keep their places
        return before.bulkhead
    return Bulkhead(
        config.limit,
        queue=config.queue,
        max_wait_seconds=config.max_wait_seconds,
        name=f"calls of {name}",
    )


def _adaptive_limit(
    name: str, policy: ServicePolicy, before: Service | None, clock: Callable[[], float]
) -> AdaptiveLimit | None:
    config = policy.adaptive_limit
    if config is None:
        return None
    if before is not None and before.policy.adaptive_limit == config:
        return before.adaptive_limit
    return AdaptiveLimit(
        **config.model_dump(),
        dropped_on=CallFailedError,
        name=f"calls of {name}",
        clock=clock,
    )


def static_filters(policy: ServicePolicy) -> tuple[InstanceFilter, ...]:
    """What the policy itself says of who may be called."""
    found: list[InstanceFilter] = [enabled]
    if policy.version:
        found.append(version_range(policy.version))
    if policy.labels:
        found.append(labels(dict(policy.labels)))
    return tuple(found)


def admitted(
    instances: Sequence[ServiceInstance],
    filters: Sequence[InstanceFilter],
    context: RequestContext,
) -> Sequence[ServiceInstance]:
    """Those that all filters let through."""
    for narrow in filters:
        instances = narrow(instances, context)
    return instances


def staged_balancer(
    name: str, policy: ServicePolicy, *, clock: Callable[[], float]
) -> Balancer[ServiceInstance]:
    """The policy's balancer with its stages: weight, slow start, and health with panic, or zone."""

    def make() -> Balancer[ServiceInstance]:
        inner: Balancer[ServiceInstance] = create(policy.balancer, name=name, clock=clock)
        if policy.slow_start_seconds:
            inner = SlowStart(inner, window_seconds=policy.slow_start_seconds, clock=clock)
        return inner

    if policy.zone:
        return WeightFilter(
            ZonePreference(make, zone=policy.zone, panic_threshold=policy.panic_threshold)
        )
    return WeightFilter(HealthFilter(make(), panic_threshold=policy.panic_threshold))


def breaker_config(policy: ServicePolicy) -> BreakerConfig:
    """The breaker of each instance."""
    return BreakerConfig(
        failure_rate_threshold=None,
        consecutive_failures=policy.breaker_failures,
        open_seconds=policy.breaker_open_seconds,
        max_open_seconds=policy.breaker_open_seconds,
        permitted_half_open_calls=1,
    )


def retry_config(policy: ServicePolicy) -> RetryConfig:
    """How attempts follow each other."""
    return RetryConfig(
        on=(TryElsewhereError,),
        attempts=policy.attempts,
        backoff=ExponentialBackoff(initial_seconds=policy.backoff_seconds),
        max_retry_after_seconds=policy.max_retry_after_seconds,
    )
