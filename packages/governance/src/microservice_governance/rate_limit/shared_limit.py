"""A limit on Redis without the I/O: what its sync and its async class share."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from microservice_core import InvalidValueError
from microservice_governance import _steps
from microservice_governance._redis import (
    REDIS_FAILURES,
    CountedFailureError,
    NoScriptError,
    describe_failure,
    own_retries,
)
from microservice_governance.errors import RateLimitedError
from microservice_governance.timeouts.deadline import deadline

from .config import Decision, LimitConfig
from .keys import check_cost
from .local_view import FailurePolicy, LocalView
from .redis_script import Grant, RedisLimits, read_grant

__all__ = ("SharedLimit",)


logger = logging.getLogger(__name__)


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
        """The limits, whether Redis decides now, and why it does not (`failure`; None if it does)."""
        return {
            "policy": "redis_rate_limiter",
            "name": self.name,
            "limits": [limit.model_dump() for limit in self.limits],
            "shared": self._local.is_shared,
            "failure": self._local.failure,
        }

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, {len(self.limits)} limits)"

    def _warn_of_retries(self, client: object) -> None:
        """Log once if the client repeats commands: that takes its callers' time, and units twice."""
        retries = own_retries(client)
        if retries:
            logger.warning(
                "the Redis client of rate limit %r repeats a failed command %d times by itself; make it "
                "with retry=Retry(NoBackoff(), 0), or use from_url",
                self.name,
                retries,
            )

    def _decide_by_redis(self, key: str, cost: int) -> _steps.Operation[Decision]:
        """Decide a call that the local view could not decide."""
        permit = self._local.acquire_permit()
        if permit is None:
            return self._local.decide_without_redis(key, cost)
        try:
            grant = yield from self._request_grant(key, cost)
        except CountedFailureError:
            self._local.return_permit(permit)
            return self._local.decide_without_redis(key, cost)
        except REDIS_FAILURES as error:
            self._local.record_failure(permit, describe_failure(error))
            return self._local.decide_without_redis(key, cost)
        except BaseException:  # a cancellation, or a mistake in the program: no outcome
            self._local.return_permit(permit)
            raise
        return self._local.record_grant(permit, key, cost, grant)

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
            InvalidValueError: `cost` is no number of units, or above the burst, so that the wait
                would never end.
        """
        check_cost(cost)
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
