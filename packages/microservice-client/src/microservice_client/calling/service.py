"""The state of one service: balancer, retry, limits, and a circuit breaker per instance."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from microservice_client.discovery.filters import (
    apply_filters,
    keep_enabled,
    match_labels,
    match_version,
)
from microservice_client.errors import (
    CallFailedError,
    NoFreeConnectionError,
    NoInstanceCallError,
)
from microservice_client.http.urls import has_usable_address
from microservice_client.policy import (
    BALANCER_FIELDS,
    BREAKER_FIELDS,
    RETRY_BUDGET_FIELDS,
    ServicePolicy,
)
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

from .retryable import RetryableAttemptError

__all__ = ("BalancerFactory", "Service", "build_policy_filters", "make_balancer")

BalancerFactory = Callable[[str, ServicePolicy], Balancer[ServiceInstance]]
"""Makes the balancer of a service from its name and policy."""

logger = logging.getLogger(__name__)

_MAX_CACHED_POLICIES = 64


@dataclass(frozen=True, slots=True)
class _NoCall:
    """The context of the policy's own filters, which depend on no call."""

    service_name: str
    headers: Mapping[str, str] = field(default_factory=dict)


class Service:
    """The state of one service.

    Args:
        name: the service's name.
        policy: the settings of calls to it.
        make_balancer: makes the balancer.
        clock: monotonic seconds.
        previous: the state under an earlier policy; the parts that the new policy does not change
            are taken over.

    Attributes:
        instances: the last instances from the instance cache.
        eligible: those of them that pass the policy's own filters.
        cooling_until: clock time until which an instance wants no calls, by its id.
        breakers: the circuit breaker of each instance that was called, by its id.
        retry: the retry of the service's own policy.
    """

    def __init__(
        self,
        name: str,
        policy: ServicePolicy,
        *,
        make_balancer: BalancerFactory,
        clock: Callable[[], float],
        previous: Service | None = None,
    ) -> None:
        self.name = name
        self.policy = policy
        self.instances: tuple[ServiceInstance, ...] = ()
        self.eligible: tuple[ServiceInstance, ...] = ()
        self.cooling_until: dict[str, float] = {}
        self.policy_filters = (self._keep_addressable, *build_policy_filters(policy))
        self.balancer = _reuse_or_make_balancer(name, policy, previous, make_balancer)
        self.breakers = _reuse_or_make_breakers(policy, previous)
        self.retry_budget = _reuse_or_make_budget(policy, previous)
        self.bulkhead = _reuse_or_make_bulkhead(name, policy, previous)
        self.adaptive_limit = _reuse_or_make_adaptive_limit(name, policy, previous, clock)
        self.rate_limiter = _reuse_or_make_rate_limiter(name, policy, previous, clock)
        self.retry = Retry(build_retry_config(policy), budget=self.retry_budget)
        self._unusable: set[str] = set()
        self._clock = clock
        self._retries: dict[tuple[int, float, float], Retry] = {}
        self._hedges: dict[tuple[float, int], Hedge] = {}
        self._breaker_config = build_breaker_config(policy)

    def update_instances(self, instances: tuple[ServiceInstance, ...]) -> None:
        """Update the balancer, and drop the state of instances that are gone."""
        self._set_aside_unusable(instances)
        self.eligible = tuple(apply_filters(instances, self.policy_filters, _NoCall(self.name)))
        self.balancer.update(self.eligible)
        self.instances = instances
        ids = {instance.instance_id for instance in instances}
        self.breakers = {key: breaker for key, breaker in self.breakers.items() if key in ids}
        self.cooling_until = {key: until for key, until in self.cooling_until.items() if key in ids}

    def _set_aside_unusable(self, instances: tuple[ServiceInstance, ...]) -> None:
        """Log each instance without a usable address, when it is new."""
        unusable = {item.instance_id for item in instances if not has_usable_address(item)}
        for instance_id in sorted(unusable - self._unusable):
            logger.warning(
                "%s: instance %r is not called, as no request can be addressed to it; correct its "
                "ip and its metadata `host`",
                self.name,
                instance_id,
            )
        self._unusable = unusable

    def _keep_addressable(
        self,
        instances: Sequence[ServiceInstance],
        context: RequestContext,
    ) -> Sequence[ServiceInstance]:
        unusable = self._unusable
        if not unusable:
            return instances
        return [item for item in instances if item.instance_id not in unusable]

    def make_breaker(self, instance_id: str) -> CircuitBreaker:
        """Make the circuit breaker of an instance that has none in `breakers`."""
        name = f"{self.name} {instance_id}"
        breaker = CircuitBreaker(name, self._breaker_config, clock=self._clock)
        self.breakers[instance_id] = breaker
        return breaker

    def find_retry(self, policy: ServicePolicy) -> Retry:
        """Return the retry of a policy; all share the service's retry budget."""
        if policy is self.policy:
            return self.retry
        key = (policy.attempts, policy.backoff_seconds, policy.max_retry_after_seconds)
        retry = self._retries.get(key)
        if retry is None:
            if len(self._retries) >= _MAX_CACHED_POLICIES:
                self._retries.clear()
            retry = Retry(build_retry_config(policy), budget=self.retry_budget)
            self._retries[key] = retry
        return retry

    def find_hedge(self, policy: ServicePolicy) -> Hedge | None:
        """Return the hedge of a policy; None if it has none, or there is only one instance."""
        if policy.hedge_after_seconds is None or len(self.eligible) < 2:
            return None
        key = (policy.hedge_after_seconds, policy.hedge_attempts)
        hedge = self._hedges.get(key)
        if hedge is None:
            if len(self._hedges) >= _MAX_CACHED_POLICIES:
                self._hedges.clear()
            hedge = self._hedges[key] = Hedge(
                delay=policy.hedge_after_seconds,
                attempts=policy.hedge_attempts,
                on=(RetryableAttemptError, NoInstanceCallError, NoFreeConnectionError),
                name=self.name,
            )
        return hedge

    @property
    def cached_policies(self) -> int:
        """Number of retries and hedges kept for policies of single calls; 128 at most."""
        return len(self._retries) + len(self._hedges)

    def cool_down(self, instance_id: str, seconds: float) -> None:
        """Do not choose an instance for a while, as long as there are others."""
        self.cooling_until[instance_id] = self._clock() + seconds

    def find_cooling(self) -> set[str]:
        """Return the ids of the instances that are cooling down, and forget the others."""
        now = self._clock()
        self.cooling_until = {
            key: until for key, until in self.cooling_until.items() if until > now
        }
        return set(self.cooling_until)


def _is_unchanged(previous: Service, policy: ServicePolicy, fields: Sequence[str]) -> bool:
    return all(getattr(previous.policy, name) == getattr(policy, name) for name in fields)


def _reuse_or_make_balancer(
    name: str, policy: ServicePolicy, previous: Service | None, make: BalancerFactory
) -> Balancer[ServiceInstance]:
    if previous is not None and _is_unchanged(previous, policy, BALANCER_FIELDS):
        return previous.balancer
    return make(name, policy)


def _reuse_or_make_breakers(
    policy: ServicePolicy, previous: Service | None
) -> dict[str, CircuitBreaker]:
    if previous is not None and _is_unchanged(previous, policy, BREAKER_FIELDS):
        return previous.breakers
    return {}


def _reuse_or_make_budget(policy: ServicePolicy, previous: Service | None) -> RetryBudget:
    if previous is not None and _is_unchanged(previous, policy, RETRY_BUDGET_FIELDS):
        return previous.retry_budget
    return RetryBudget(policy.retry_budget_ratio, min_per_second=policy.retry_budget_per_second)


def _reuse_or_make_rate_limiter(
    name: str, policy: ServicePolicy, previous: Service | None, clock: Callable[[], float]
) -> RateLimiter | None:
    if previous is not None and previous.policy.rate_limit == policy.rate_limit:
        return previous.rate_limiter
    if policy.rate_limit is None:
        return None
    return RateLimiter(policy.rate_limit, name=f"calls of {name}", clock=clock)


def _reuse_or_make_bulkhead(
    name: str, policy: ServicePolicy, previous: Service | None
) -> Bulkhead | None:
    config = policy.bulkhead
    if config is None:
        return None
    if previous is not None and previous.bulkhead is not None:
        # The same object with a new limit, so that the calls inside still count.
        previous.bulkhead.reconfigure(config)
        return previous.bulkhead
    return Bulkhead(
        config.limit,
        queue=config.queue,
        max_wait_seconds=config.max_wait_seconds,
        name=f"calls of {name}",
    )


def _reuse_or_make_adaptive_limit(
    name: str, policy: ServicePolicy, previous: Service | None, clock: Callable[[], float]
) -> AdaptiveLimit | None:
    config = policy.adaptive_limit
    if config is None:
        return None
    if previous is not None and previous.policy.adaptive_limit == config:
        return previous.adaptive_limit
    return AdaptiveLimit(
        **config.model_dump(),
        dropped_on=CallFailedError,
        name=f"calls of {name}",
        clock=clock,
    )


def build_policy_filters(policy: ServicePolicy) -> tuple[InstanceFilter, ...]:
    """Return the filters that the policy itself defines."""
    filters: list[InstanceFilter] = [keep_enabled]
    if policy.version:
        filters.append(match_version(policy.version))
    if policy.labels:
        filters.append(match_labels(dict(policy.labels)))
    return tuple(filters)


def make_balancer(
    name: str, policy: ServicePolicy, *, clock: Callable[[], float]
) -> Balancer[ServiceInstance]:
    """Make the policy's balancer with its stages: weight, zone or health, slow start."""

    def make_inner() -> Balancer[ServiceInstance]:
        inner: Balancer[ServiceInstance] = create(policy.balancer, name=name, clock=clock)
        if policy.slow_start_seconds:
            inner = SlowStart(inner, window_seconds=policy.slow_start_seconds, clock=clock)
        return inner

    if policy.zone:
        return WeightFilter(
            ZonePreference(make_inner, zone=policy.zone, panic_threshold=policy.panic_threshold)
        )
    return WeightFilter(HealthFilter(make_inner(), panic_threshold=policy.panic_threshold))


def build_breaker_config(policy: ServicePolicy) -> BreakerConfig:
    """Return the configuration of each instance's circuit breaker."""
    return BreakerConfig(
        failure_rate_threshold=None,
        consecutive_failures=policy.breaker_failures,
        open_seconds=policy.breaker_open_seconds,
        max_open_seconds=policy.breaker_open_seconds,
        permitted_half_open_calls=1,
    )


def build_retry_config(policy: ServicePolicy) -> RetryConfig:
    """Return the configuration of the retry loop around the attempts of a call."""
    return RetryConfig(
        on=(RetryableAttemptError,),
        attempts=policy.attempts,
        backoff=ExponentialBackoff(initial_seconds=policy.backoff_seconds),
        max_retry_after_seconds=policy.max_retry_after_seconds,
    )
