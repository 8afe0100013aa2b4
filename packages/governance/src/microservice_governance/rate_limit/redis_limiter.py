"""Limits shared through Redis, for redis-py."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self, cast

from microservice_core import InvalidValueError
from microservice_governance._redis import FAILURES, Client, NoScriptError, Redis
from microservice_governance.errors import RateLimitedError
from microservice_governance.testing_mode import is_testing
from microservice_governance.testing_mode import sleep as plain_sleep
from microservice_governance.timeouts.deadline import deadline

from .config import Decision, LimitConfig
from .distributed_limit import DistributedLimit, FailurePolicy
from .redis_script import RedisLimits, read_grant

__all__ = ("Answer", "Arguments", "RedisRateLimiter", "SharedLimit")


Answer = bytes | str
Arguments = list[bytes | str]


class SharedLimit:
    """What both faces have in common; nothing here waits."""

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
        self._rules = RedisLimits(self.limits, name)
        self._limit = DistributedLimit(
            self._rules,
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
        """The limits, and whether they are shared now."""
        return {
            "policy": "redis_rate_limiter",
            "name": self.name,
            "limits": [limit.model_dump() for limit in self.limits],
            "shared": self._limit.breaker.current_state == "closed",
        }

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, {len(self.limits)} limits)"

    def _arguments(self, key: str, cost: int) -> Arguments:
        now = None if self._server_time is None else self._server_time()
        return self._rules.arguments(key, cost, self._limit.most(key, cost), now)

    def _ends_at(self, cost: int, timeout: float | None) -> float:
        if cost > self._rules.capacity:
            raise InvalidValueError("cost", cost, f"at most the burst, {self._rules.capacity}")
        left = deadline.remaining(self._clock)
        allowed = [limit for limit in (timeout, left) if limit is not None]
        return self._clock() + min(allowed, default=float("inf"))

    def _wait_after(self, decision: Decision, ends_at: float) -> float:
        """Seconds to wait before asking again.

        Raises:
            RateLimitedError: the wait would be longer than allowed.
        """
        wait = max(decision.retry_after, 0.0)
        if self._clock() + wait > ends_at:
            raise self._refusal(wait)
        return wait

    def _refusal(self, wait: float | None) -> RateLimitedError:
        limit = self.limits[0]
        return RateLimitedError(self.name, limit.rate, limit.per_seconds, wait)


class RedisRateLimiter(SharedLimit):
    """GCRA limits that all processes share through Redis: one round trip per decision.

    A key that is refused is not asked for again before its time: it costs no round trip. While
    Redis does not answer, `on_failure` decides; after three failures in a row it is left alone for
    a moment. Give the client a short `socket_timeout` (50 ms), or let `from_url` make it.

    Args:
        client: of redis-py, for one server or a cluster; RESP 2 or 3, `decode_responses` or not.
        limits: one, or several that all hold: a refusal of one takes nothing of the others.
        name: of the limiter; part of the keys, `rl:{name:key}`.
        on_failure: `local` limits in this process to its part of the limit, `open` lets all
            pass, `closed` none.
        replicas: how many processes share the limit, for `local`.
        lease: units to take at once for keys in demand, which then cost a round trip only every
            so often. What a process does not use of a lease is lost.
        max_keys: how many keys are remembered here; bounds the memory.
        server_time: microseconds in place of the server's clock, for tests.

    Raises:
        InvalidValueError: a setting is out of its range, or a limit is faster than one unit per
            microsecond.
    """

    def __init__(
        self,
        client: Client,
        limits: LimitConfig | Sequence[LimitConfig],
        *,
        name: str,
        on_failure: FailurePolicy = "local",
        replicas: int = 1,
        lease: int = 1,
        max_keys: int = 10_000,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = plain_sleep,
        server_time: Callable[[], int] | None = None,
    ) -> None:
        super().__init__(
            limits,
            name=name,
            on_failure=on_failure,
            replicas=replicas,
            lease=lease,
            max_keys=max_keys,
            clock=clock,
            server_time=server_time,
        )
        self._client = client
        self._sleep = sleep

    @classmethod
    def from_url(
        cls,
        url: str,
        limits: LimitConfig | Sequence[LimitConfig],
        *,
        name: str,
        timeout_seconds: float = 0.05,
        on_failure: FailurePolicy = "local",
        replicas: int = 1,
        lease: int = 1,
    ) -> Self:
        """A limiter with a client of its own, which `close` closes."""
        client = Redis.from_url(
            url, socket_timeout=timeout_seconds, socket_connect_timeout=timeout_seconds
        )
        return cls(client, limits, name=name, on_failure=on_failure, replicas=replicas, lease=lease)

    def try_acquire(self, key: str, cost: int = 1) -> Decision:
        """Take `cost` units of the key's limits if they are free now.

        Args:
            cost: units; 0 only looks.

        Raises:
            InvalidValueError: `cost` is negative.
        """
        known = self._limit.known(key, cost)
        if known is not None:
            return known
        permit = self._limit.permit()
        if permit is None:
            return self._limit.without_redis(key, cost)
        with permit:
            try:
                granted = read_grant(self._ask(self._arguments(key, cost)))
            except FAILURES as error:
                permit.release(error)
                return self._limit.without_redis(key, cost)
        return self._limit.learned(key, cost, granted)

    def acquire(self, key: str, cost: int = 1, *, timeout: float | None = None) -> None:
        """Wait until `cost` units are free and take them.

        Args:
            timeout: seconds to wait at most; the `deadline` in force counts as well.

        Raises:
            RateLimitedError: the wait would be longer than allowed; told at once.
            InvalidValueError: `cost` is negative, or above the burst and so never free.
        """
        ends_at = self._ends_at(cost, timeout)
        while not (decision := self.try_acquire(key, cost)).allowed and not is_testing():
            self._sleep(self._wait_after(decision, ends_at))

    def close(self) -> None:
        """Close the client."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.close()

    def _ask(self, arguments: Arguments) -> Answer:
        ask = cast("Callable[..., Answer]", self._client.execute_command)
        try:
            return ask("EVALSHA", self._rules.sha, *arguments)
        except NoScriptError:
            return ask("EVAL", self._rules.script, *arguments)
