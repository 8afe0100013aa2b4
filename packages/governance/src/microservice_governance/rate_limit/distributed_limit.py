"""What a limit shared through Redis knows in this process: denials, leases, and what to do without.

No I/O here: the faces for redis-py and for its asyncio client ask `known` before they ask Redis and
report with `learned` or `failed`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Literal

from microservice_core import InvalidValueError
from microservice_governance.bounded_map import BoundedMap
from microservice_governance.breaker.circuit_breaker import CircuitBreaker
from microservice_governance.breaker.config import BreakerConfig
from microservice_governance.breaker.permit import Permit
from microservice_governance.errors import CircuitOpenError
from microservice_governance.events import PolicyEvent, StateChanged

from .config import Decision, LimitConfig
from .keyed import KeyedRateLimiter
from .redis_script import Grant, RedisLimits

__all__ = ("DistributedLimit", "FailurePolicy")

FailurePolicy = Literal["open", "closed", "local"]

_log = logging.getLogger(__name__)

_PATIENCE = BreakerConfig(
    failure_rate_threshold=None,
    consecutive_failures=3,
    open_seconds=0.5,
    open_seconds_multiplier=2.0,
    max_open_seconds=5.0,
    permitted_half_open_calls=1,
)


class DistributedLimit:
    """The local half of a shared limit.

    Args:
        limits: all of them hold for each key.
        on_failure: what happens while Redis does not answer.
        replicas: how many processes share the limit; each takes its part while it is alone.
        lease: units to take at once for a key that is asked for often.
        max_keys: bound of each map.
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
        _check(on_failure, replicas, lease)
        self.limits = limits
        self.name = name
        self._on_failure = on_failure
        self._lease = lease
        self._clock = clock
        self._denials: BoundedMap[str, tuple[Decision, int, float]] = BoundedMap(max_keys)
        self._leases: BoundedMap[str, tuple[int, float]] = BoundedMap(max_keys)
        self._lock = threading.Lock()
        self._alone = [
            KeyedRateLimiter(_part(limit, replicas), max_keys=max_keys, name=name, clock=clock)
            for limit in limits.limits
        ]
        self.breaker = CircuitBreaker(f"redis of {name}", _PATIENCE, clock=clock)
        self.breaker.subscribe(self._say)

    def known(self, key: str, cost: int) -> Decision | None:
        """The answer, where Redis need not be asked for it.

        Raises:
            InvalidValueError: `cost` is negative.
        """
        if cost < 0:
            raise InvalidValueError("cost", cost, "at least 0")
        with self._lock:
            return self._denied(key, cost) or self._leased(key, cost)

    def most(self, key: str, cost: int) -> int:
        """How many units to ask for: more than the cost where the key is in demand."""
        if self._lease <= 1 or cost == 0:
            return cost
        with self._lock:
            lease = self._leases.get(key)
            wanted = lease is not None and lease[1] > self._clock()
            self._leases.put(key, (0, self._lease_ends()))
        return max(cost, self._lease) if wanted else cost

    def learned(self, key: str, cost: int, granted: Grant) -> Decision:
        """Remember what Redis said."""
        decision, taken = granted
        with self._lock:
            if taken:
                self._denials.pop(key)  # what it said is no longer so
            if not decision.allowed and decision.retry_after > 0:
                self._denials.put(key, (decision, cost, self._clock()))
            elif taken > cost:
                self._leases.put(key, (taken - cost, self._lease_ends()))
                decision = decision._replace(remaining=decision.remaining + taken - cost)
        return decision

    def permit(self) -> Permit | None:
        """Leave to ask Redis; None while it is known not to answer."""
        try:
            return self.breaker.acquire()
        except CircuitOpenError:
            return None

    def without_redis(self, key: str, cost: int) -> Decision:
        """What holds while Redis does not answer."""
        if self._on_failure == "open":
            return Decision(True, self.limits.capacity, -1.0, 0.0)
        if self._on_failure == "closed":
            wait = self.breaker.retry_after or 0.0
            return Decision(False, 0, max(wait, _PATIENCE.open_seconds), wait)
        # Nothing is taken of one limit when another one refuses.
        short = [alone for alone in self._alone if alone.try_acquire(key, 0).remaining < cost]
        decisions = [alone.try_acquire(key, cost) for alone in short or self._alone]
        return min(decisions, key=lambda one: (one.allowed, one.remaining, -one.retry_after))

    def _denied(self, key: str, cost: int) -> Decision | None:
        denial = self._denials.get(key)
        if denial is None:
            return None
        decision, denied_cost, told_at = denial
        since = self._clock() - told_at
        if not 0 <= since < decision.retry_after:
            self._denials.pop(key)
            return None
        if not denied_cost <= cost <= self.limits.capacity:
            return None
        more = (cost - denied_cost) * self.limits.emission_seconds
        return decision._replace(
            retry_after=decision.retry_after - since + more,
            reset_after=max(0.0, decision.reset_after - since),
        )

    def _leased(self, key: str, cost: int) -> Decision | None:
        lease = self._leases.get(key) if self._lease > 1 else None
        if lease is None or cost == 0 or lease[0] < cost or lease[1] <= self._clock():
            return None
        left = lease[0] - cost
        self._leases.put(key, (left, lease[1]))
        return Decision(True, left, -1.0, self.limits.emission_seconds * left)

    def _lease_ends(self) -> float:
        # Units kept for longer than it takes to earn them anew would come on top of the limit.
        return self._clock() + self._lease * self.limits.emission_seconds

    def _say(self, event: PolicyEvent) -> None:
        """One line per change, however many calls there are."""
        if not isinstance(event, StateChanged):
            return
        if (event.old, event.new) == ("closed", "open"):
            _log.warning(
                "rate limit %r has no answer from Redis: %s until it is back",
                self.name,
                {"open": "all pass", "closed": "none pass", "local": "each process limits alone"}[
                    self._on_failure
                ],
            )
        elif event.new == "closed":
            _log.info("rate limit %r is shared through Redis again", self.name)


def _part(limit: LimitConfig, replicas: int) -> LimitConfig:
    rate = max(1, limit.rate // replicas)
    burst = max(1, limit.capacity // replicas)
    if limit.hard and rate > 1:
        burst = min(burst, rate - 1)
    return LimitConfig(
        rate=rate,
        per_seconds=limit.per_seconds,
        burst=burst,
        hard=limit.hard,
    )


def _check(on_failure: str, replicas: int, lease: int) -> None:
    if on_failure not in {"open", "closed", "local"}:
        raise InvalidValueError("on_failure", on_failure, "'open', 'closed' or 'local'")
    if not 1 <= replicas <= 100_000:
        raise InvalidValueError("replicas", replicas, "a whole number from 1 to 100000")
    if not 1 <= lease <= 1_000_000:
        raise InvalidValueError("lease", lease, "a whole number from 1 to 1000000")
