"""A limit on Redis without the I/O: what its sync and its async class share."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from microservice_core import InvalidValueError
from microservice_governance import _steps
from microservice_governance._redis import REDIS_FAILURES, NoScriptError
from microservice_governance.errors import RateLimitedError
from microservice_governance.timeouts.deadline import deadline

from .config import Decision, LimitConfig
from .local_view import FailurePolicy, LocalView
from .redis_script import Grant, RedisLimits, read_grant

__all__ = ("SharedLimit",)


class SharedLimit:
    """Decides about calls as operations; a subclass sends their commands to Redis."""

    def __init__(
        self,
        limits: LimitConfig | Sequence[LimitConfig],
        *,
        name: str,
        on_failure: FailurePolicy = "local",
        replicas: int = 1,
        lease: int = 1,
        max_keys: int = 10_000,
        clock: Callable[[], float] = time.monotonic,
        server_time: Callable[[], int] | None = None,
    ) -> None:
        self.name = name
        self.limits = (limits,) if isinstance(limits, LimitConfig) else tuple(limits)
        self._redis_limits = RedisLimits(self.limits, name)
        self._local = LocalView(
            self._redis_limits,
            name=name,
            on_failure=on_failure,
            replicas=replicas,
            lease=lease,
            max_keys=max_keys,
            clock=clock,
        )
        self._clock = clock
        self._server_time = server_time

    def snapshot(self) -> dict[str, object]:
        """The limits, and whether Redis is reachable."""
        return {
            "policy": "redis_rate_limiter",
            "name": self.name,
            "limits": [limit.model_dump() for limit in self.limits],
            "shared": self._local.is_shared,
        }

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, {len(self.limits)} limits)"

    def _decide_by_redis(self, key: str, cost: int) -> _steps.Operation[Decision]:
        """Decide a call that the local view could not decide."""
        permit = self._local.acquire_permit()
        if permit is None:
            return self._local.decide_without_redis(key, cost)
        # The permit's block sees a cancellation, too: it then counts as no outcome.
        with permit:
            try:
                grant = yield from self._request_grant(key, cost)
            except REDIS_FAILURES as error:
                permit.release(error)
                return self._local.decide_without_redis(key, cost)
        return self._local.record_grant(key, cost, grant)

    def _request_grant(self, key: str, cost: int) -> _steps.Operation[Grant]:
        limits = self._redis_limits
        now = None if self._server_time is None else self._server_time()
        units = self._local.units_to_request(key, cost)
        arguments = limits.arguments(key, cost, units, now)
        try:
            response = yield ("EVALSHA", limits.sha, *arguments)
        except NoScriptError:  # the server was restarted or its scripts flushed
            response = yield ("EVAL", limits.script, *arguments)
        return read_grant(response)

    def _wait_until(self, cost: int, timeout: float | None) -> float:
        """The time at which a wait for `cost` units has to end; infinity if there is no limit.

        Raises:
            InvalidValueError: `cost` is above the burst, so the wait would never end.
        """
        capacity = self._redis_limits.capacity
        if cost > capacity:
            raise InvalidValueError("cost", cost, f"at most the burst, {capacity}")
        bounds = (timeout, deadline.remaining(self._clock))
        seconds = min((bound for bound in bounds if bound is not None), default=float("inf"))
        return self._clock() + seconds

    def _seconds_to_retry(self, decision: Decision, ends_at: float) -> float:
        """Seconds to wait after a refusal.

        Raises:
            RateLimitedError: the wait would end after `ends_at`.
        """
        wait = max(decision.retry_after, 0.0)
        if self._clock() + wait > ends_at:
            raise self._rate_limited(wait)
        return wait

    def _rate_limited(self, retry_after: float | None) -> RateLimitedError:
        limit = self.limits[0]
        return RateLimitedError(self.name, limit.rate, limit.per_seconds, retry_after)
