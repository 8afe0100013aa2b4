"""The part of a limit on Redis that lives in this process: denials, leases, and a substitute.

No I/O here. A denial that is still valid, or units held on a lease, decide a call without Redis;
while Redis does not respond, a limit of this process takes its place.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from typing import Literal

from microservice_core import InvalidValueError, call_after_fork
from microservice_governance.bounded_map import BoundedMap
from microservice_governance.breaker.circuit_breaker import CircuitBreaker
from microservice_governance.breaker.config import BreakerConfig
from microservice_governance.breaker.permit import Permit
from microservice_governance.errors import CircuitOpenError
from microservice_governance.events import PolicyEvent, StateChanged

from .config import Decision, LimitConfig
from .keyed import KeyedRateLimiter
from .keys import check_cost
from .redis_script import Grant, RedisLimits

__all__ = ("FailurePolicy", "LocalView")

FailurePolicy = Literal["open", "closed", "local"]

logger = logging.getLogger(__name__)

# After three failures in a row Redis is left alone for 0.5 s, then 1 s, 2 s, up to 5 s.
_REDIS_BREAKER = BreakerConfig(
    failure_rate_threshold=None,
    consecutive_failures=3,
    open_seconds=0.5,
    open_seconds_multiplier=2.0,
    max_open_seconds=5.0,
    permitted_half_open_calls=1,
)

_MAX_PERIOD_SECONDS = 31_536_000.0

_WITHOUT_REDIS = {
    "open": "all calls pass",
    "closed": "no call passes",
    "local": "each process limits alone",
}


class LocalView:
    """What this process knows of a limit on Redis.

    Args:
        limits: the limits, all of which apply to each key.
        name: of the limiter, for messages.
        on_failure: what to decide while Redis does not respond.
        replicas: number of processes that share the limit; without Redis each takes its part.
        lease: units to take at once for a key that is in demand.
        max_keys: upper bound of the number of denials, and of leases, that are remembered.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        limits: RedisLimits,
        *,
        name: str,
        on_failure: FailurePolicy,
        replicas: int,
        lease: int,
        max_keys: int,
        clock: Callable[[], float],
    ) -> None:
        _validate(on_failure, replicas, lease)
        self.limits = limits
        self.name = name
        self._on_failure = on_failure
        self._lease = lease
        self._clock = clock
        # The denial, its cost and its time; the units held and the end of the lease.
        self._denials: BoundedMap[str, tuple[Decision, int, float]] = BoundedMap(max_keys)
        self._leases: BoundedMap[str, tuple[int, float]] = BoundedMap(max_keys)
        self._lock = threading.Lock()
        self._substitutes = [
            KeyedRateLimiter(
                _share_per_replica(limit, replicas), max_keys=max_keys, name=name, clock=clock
            )
            for limit in limits.limits
        ]
        self._breaker = CircuitBreaker(f"redis of {name}", _REDIS_BREAKER, clock=clock)
        self._breaker.subscribe(self._log_state_change)
        self._failure: str | None = None
        call_after_fork(self._forget_leases)

    @property
    def is_shared(self) -> bool:
        """Whether Redis decides; false while it does not respond."""
        return self._breaker.current_state == "closed"

    @property
    def failure(self) -> str | None:
        """Why the last request to Redis failed; None if it succeeded."""
        return self._failure

    def decide(self, key: str, cost: int) -> Decision | None:
        """The decision, if it needs no round trip to Redis; None otherwise.

        Raises:
            InvalidValueError: `cost` is not a whole number, or negative.
        """
        if type(cost) is not int or cost < 0:
            check_cost(cost)
        with self._lock:
            return self._repeat_denial(key, cost) or self._take_leased(key, cost)

    def units_to_request(self, key: str, cost: int) -> int:
        """The units to take from Redis: more than `cost` if the key is in demand."""
        if self._lease <= 1 or cost == 0:
            return cost
        with self._lock:
            lease = self._leases.get(key)
            # In demand: the time of an earlier lease, or of an earlier request, has not run out.
            in_demand = lease is not None and lease[1] > self._clock()
            self._leases.set(key, (0, self._lease_end()))
        return max(cost, self._lease) if in_demand else cost

    def record_grant(self, permit: Permit, key: str, cost: int, grant: Grant) -> Decision:
        """Remember what Redis granted or denied; the decision for the caller."""
        self._failure = None
        permit.release()
        decision, units = grant
        with self._lock:
            if units:
                self._denials.pop(key)
            if not decision.allowed and decision.retry_after > 0:
                self._denials.set(key, (decision, cost, self._clock()))
            elif units > cost:
                self._leases.set(key, (units - cost, self._lease_end()))
                decision = decision._replace(remaining=decision.remaining + units - cost)
        return decision

    def acquire_permit(self) -> Permit | None:
        """Permission to send a command to Redis; None while Redis does not respond."""
        try:
            return self._breaker.acquire()
        except CircuitOpenError:
            return None

    def record_failure(self, permit: Permit | None, cause: str) -> None:
        """Count a request that failed; without a permit for one that no caller waited for."""
        self._failure = cause
        error = ConnectionError(cause)
        if permit is None:
            self._breaker.note(error)
        else:
            permit.release(error)

    def return_permit(self, permit: Permit) -> None:
        """Return a permit whose request says nothing about Redis."""
        permit.release(asyncio.CancelledError())

    def decide_without_redis(self, key: str, cost: int) -> Decision:
        """The decision while Redis does not respond, according to `on_failure`."""
        if self._on_failure == "open":
            return Decision(True, self.limits.capacity, -1.0, 0.0)
        next_request = max(self._breaker.retry_after or 0.0, _REDIS_BREAKER.open_seconds)
        if self._on_failure == "closed":
            return Decision(False, 0, next_request, self._breaker.retry_after or 0.0)
        decision = self._decide_by_substitutes(key, cost)
        if not decision.allowed and decision.retry_after < 0 and cost <= self.limits.capacity:
            # More than this process's part: only Redis can let it pass, when it is back.
            return decision._replace(retry_after=next_request)
        return decision

    def _decide_by_substitutes(self, key: str, cost: int) -> Decision:
        # If one limit refuses, nothing may be taken from the others: so only it decides then.
        refusing = [
            limiter for limiter in self._substitutes if limiter.try_acquire(key, 0).remaining < cost
        ]
        decisions = [limiter.try_acquire(key, cost) for limiter in refusing or self._substitutes]
        return min(
            decisions,
            key=lambda decision: (decision.allowed, decision.remaining, -decision.retry_after),
        )

    def _repeat_denial(self, key: str, cost: int) -> Decision | None:
        """The denial of `key` that is still valid, as of now; None if Redis might allow `cost`."""
        denial = self._denials.get(key)
        if denial is None:
            return None
        decision, denied_cost, denied_at = denial
        elapsed = self._clock() - denied_at
        if not 0 <= elapsed < decision.retry_after:
            self._denials.pop(key)
            return None
        # A smaller cost might pass; one above the capacity gets another decision: it can never pass.
        if not denied_cost <= cost <= self.limits.capacity:
            return None
        additional = (cost - denied_cost) * self.limits.emission_seconds
        return decision._replace(
            retry_after=decision.retry_after - elapsed + additional,
            reset_after=max(0.0, decision.reset_after - elapsed),
        )

    def _take_leased(self, key: str, cost: int) -> Decision | None:
        """Take `cost` units of the key's lease; None if it does not hold as many."""
        lease = self._leases.get(key) if self._lease > 1 else None
        if lease is None or cost == 0 or lease[0] < cost or lease[1] <= self._clock():
            return None
        remaining = lease[0] - cost
        self._leases.set(key, (remaining, lease[1]))
        return Decision(True, remaining, -1.0, self.limits.emission_seconds * remaining)

    def _forget_leases(self) -> None:
        """The units that are held are the parent's: each forked child would spend them once more."""
        self._leases = BoundedMap(self._leases.max_keys)

    def _lease_end(self) -> float:
        # Units that were held longer than Redis needs to emit them again would pass on top of the
        # limit.
        return self._clock() + self._lease * self.limits.emission_seconds

    def _log_state_change(self, event: PolicyEvent) -> None:
        """Log one line per change, however many calls there are."""
        if not isinstance(event, StateChanged):
            return
        if (event.old, event.new) == ("closed", "open"):
            logger.warning(
                "rate limit %r cannot use Redis (%s); %s until it can",
                self.name,
                self._failure,
                _WITHOUT_REDIS[self._on_failure],
            )
        elif event.new == "closed":
            logger.info("rate limit %r is shared through Redis again", self.name)


def _share_per_replica(limit: LimitConfig, replicas: int) -> LimitConfig:
    """The part of one process: below one unit per period the period is longer instead."""
    rate = max(1, limit.rate // replicas)
    burst = max(1, limit.capacity // replicas)
    seconds = min(_MAX_PERIOD_SECONDS, limit.per_seconds * max(1.0, replicas / limit.rate))
    if limit.hard and rate > 1:
        burst = min(burst, rate - 1)
    return LimitConfig(rate=rate, per_seconds=seconds, burst=burst, hard=limit.hard)


def _validate(on_failure: str, replicas: int, lease: int) -> None:
    if on_failure not in {"open", "closed", "local"}:
        raise InvalidValueError("on_failure", on_failure, "'open', 'closed' or 'local'")
    if not 1 <= replicas <= 100_000:
        raise InvalidValueError("replicas", replicas, "a whole number from 1 to 100000")
    if not 1 <= lease <= 1_000_000:
        raise InvalidValueError("lease", lease, "a whole number from 1 to 1000000")
