"""Builds the policies of a pipeline from settings, and changes them when the settings change."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import cast

from pydantic import BaseModel

from microservice_governance.breaker.circuit_breaker import CircuitBreaker
from microservice_governance.breaker.config import BreakerConfig
from microservice_governance.concurrency.adaptive_limit import AdaptiveLimit
from microservice_governance.concurrency.bulkhead import Bulkhead, BulkheadConfig
from microservice_governance.events import Listener
from microservice_governance.fault_injection import FaultInjection, FaultInjectionConfig
from microservice_governance.policy import Policy
from microservice_governance.rate_limit.config import LimitConfig
from microservice_governance.rate_limit.limiter import RateLimiter
from microservice_governance.retry.budget import RetryBudget
from microservice_governance.retry.config import RetryConfig
from microservice_governance.retry.hedge import Hedge
from microservice_governance.retry.latency import LatencyPercentile
from microservice_governance.retry.retry import Retry
from microservice_governance.timeouts.timeout import Timeout

from .config import (
    AdaptiveLimitConfig,
    HedgeConfig,
    PipelineConfig,
    RetryBudgetConfig,
    TimeoutConfig,
)
from .pipeline import Pipeline

__all__ = ("ConfiguredPipeline", "build_pipeline")


class ConfiguredPipeline(Pipeline):
    """A pipeline built from settings, which can be changed while it is in use.

    A change keeps the state of the policies: a circuit stays open, calls in flight keep their
    permits, a rate limit remembers the calls it let through. Decorated functions follow a change.
    """

    def __init__(
        self, config: PipelineConfig, *, name: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.config = config
        self._clock = clock
        self._parts: dict[str, Policy] = {}
        self._listeners: tuple[Listener, ...] = ()
        self._name = name
        self._update_parts(config, PipelineConfig())
        super().__init__(self._ordered_policies(), name=name)

    def reconfigure(self, config: PipelineConfig) -> None:
        """Use `config` for calls that begin from now on."""
        before, self.config = self.config, config
        self._update_parts(config, before)
        self.replace(self._ordered_policies())

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` with the events of all policies, present and future.

        Returns a function that ends this.
        """
        self._listeners = (*self._listeners, listener)
        return super().subscribe(listener)

    def unsubscribe(self, listener: Listener) -> None:
        """Stop calling `listener`."""
        self._listeners = tuple(other for other in self._listeners if other != listener)
        super().unsubscribe(listener)

    def _ordered_policies(self) -> tuple[Policy, ...]:
        return tuple(self._parts[part] for part in PipelineConfig.ORDER if part in self._parts)

    def _update_parts(self, config: PipelineConfig, before: PipelineConfig) -> None:
        for part in PipelineConfig.ORDER:
            settings = cast("BaseModel | None", getattr(config, part))
            if settings is None:
                self._parts.pop(part, None)
                continue
            policy = self._parts.get(part)
            if policy is None:
                policy = self._parts[part] = self._build(settings)
            elif settings != getattr(before, part):
                _reconfigure(policy, settings)
            policy.enabled = part not in config.disabled
        retry = self._parts.get("retry")
        if isinstance(retry, Retry) and config.retry_budget != before.retry_budget:
            retry.budget = _changed_budget(retry.budget, config.retry_budget, self._clock)

    def _build(self, settings: BaseModel) -> Policy:
        policy = _build_policy(settings, self._name, self._clock)
        if isinstance(policy, Retry):
            policy.budget = _build_budget(self.config.retry_budget, self._clock)
        for listener in self._listeners:
            policy.subscribe(listener)
        return policy


def build_pipeline(
    config: PipelineConfig, *, name: str, clock: Callable[[], float] = time.monotonic
) -> ConfiguredPipeline:
    """Build the policies that `config` names, in the recommended order; each is named `name`."""
    return ConfiguredPipeline(config, name=name, clock=clock)


def _build_policy(  # noqa: PLR0911 - one for each kind of policy
    settings: BaseModel, name: str, clock: Callable[[], float]
) -> Policy:
    match settings:
        case TimeoutConfig(seconds=seconds):
            return Timeout(seconds, name=name, clock=clock)
        case BulkheadConfig(limit=limit, queue=queue, max_wait_seconds=wait):
            return Bulkhead(limit, queue=queue, max_wait_seconds=wait, name=name, clock=clock)
        case AdaptiveLimitConfig():
            return AdaptiveLimit(**settings.model_dump(), name=name, clock=clock)
        case RetryConfig():
            return Retry(settings, name=name, clock=clock)
        case HedgeConfig():
            return _build_hedge(settings, name, clock)
        case BreakerConfig():
            return CircuitBreaker(name, settings, clock=clock)
        case LimitConfig():
            return RateLimiter(settings, name=name, clock=clock)
        case FaultInjectionConfig():
            return FaultInjection(settings, name=name)
    raise TypeError(f"no policy is made from {settings!r}")


def _reconfigure(policy: Policy, settings: BaseModel) -> None:
    """Change a policy in place, so that it keeps its state."""
    match policy, settings:
        case Timeout(), TimeoutConfig(seconds=seconds):
            policy.reconfigure(seconds)
        case Bulkhead(), BulkheadConfig():
            policy.reconfigure(settings)
        case Retry(), RetryConfig():
            policy.reconfigure(settings)
        case CircuitBreaker(), BreakerConfig():
            policy.reconfigure(settings)
        case RateLimiter(), LimitConfig():
            policy.reconfigure(settings)
        case FaultInjection(), FaultInjectionConfig():
            policy.reconfigure(settings)
        case AdaptiveLimit(), AdaptiveLimitConfig(min_limit=least, max_limit=most):
            policy.reconfigure(settings.algorithm, min_limit=least, max_limit=most)
        case Hedge(), HedgeConfig():
            _reconfigure_hedge(policy, settings)


def _reconfigure_hedge(hedge: Hedge, settings: HedgeConfig) -> None:
    """Change a hedge; the delay it has learned and its budget stay."""
    delay, share = hedge.delay, settings.delay_percentile
    if share is None:
        delay = settings.delay_seconds or 0.0
    elif isinstance(delay, LatencyPercentile):
        delay.reconfigure(share)
    else:
        delay = LatencyPercentile(share)
    hedge.reconfigure(delay=delay, attempts=settings.attempts, on=settings.on)
    hedge.budget.reconfigure(settings.budget_ratio, min_per_second=1.0)


def _build_hedge(settings: HedgeConfig, name: str, clock: Callable[[], float]) -> Hedge:
    delay: float | LatencyPercentile
    if settings.delay_percentile is not None:
        delay = LatencyPercentile(settings.delay_percentile)
    else:
        delay = settings.delay_seconds or 0.0
    budget = RetryBudget(settings.budget_ratio, min_per_second=1.0, clock=clock)
    return Hedge(
        delay=delay,
        attempts=settings.attempts,
        on=settings.on,
        budget=budget,
        name=name,
        clock=clock,
    )


def _changed_budget(
    budget: RetryBudget | None, settings: RetryBudgetConfig | None, clock: Callable[[], float]
) -> RetryBudget | None:
    """The budget with other settings; what was spent stays spent."""
    if budget is None or settings is None:
        return _build_budget(settings, clock)
    budget.reconfigure(
        settings.ratio,
        min_per_second=settings.min_per_second,
        window_seconds=settings.window_seconds,
    )
    return budget


def _build_budget(
    settings: RetryBudgetConfig | None, clock: Callable[[], float]
) -> RetryBudget | None:
    if settings is None:
        return None
    return RetryBudget(
        settings.ratio,
        min_per_second=settings.min_per_second,
        window_seconds=settings.window_seconds,
        clock=clock,
    )
