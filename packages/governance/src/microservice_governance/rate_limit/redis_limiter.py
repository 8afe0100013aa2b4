"""Rate limits shared through Redis, for redis-py's sync client."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self, cast

from microservice_governance import _steps
from microservice_governance._redis import Client, make_client
from microservice_governance.testing_mode import is_testing
from microservice_governance.testing_mode import sleep as default_sleep

from .config import Decision, LimitConfig
from .keys import LimitKey, encode_key
from .local_view import FailurePolicy
from .shared_limit import SharedLimit

__all__ = ("RedisRateLimiter",)


class RedisRateLimiter(SharedLimit):
    """GCRA limits that all processes share through Redis: one round trip per decision.

    A refused key is not requested again before its time, so refusals cost no round trip. While
    Redis does not respond, `on_failure` decides; after three failures in a row Redis is left alone
    for a moment. Only a lost connection, a time-out and an error of the server count as one; a
    mistake in the program comes out. `snapshot` and the log say why Redis cannot be used.

    Args:
        client: of redis-py, for one server or a cluster; RESP 2 or 3, with `decode_responses` or
            without. It stays open. Give it a short `socket_timeout` (50 ms), a
            `socket_connect_timeout` (1 s) and `retry=Retry(NoBackoff(), 0)`: by default redis-py
            repeats what failed by itself, and a call waits for seconds. Or use `from_url`.
        limits: one limit, or several that all apply: a refusal by one takes nothing of the others.
        name: of the limiter; part of the keys, `rl:{name:key}`.
        on_failure: without Redis, `local` limits this process to its part of the limit, `open`
            lets all calls pass, `closed` none.
        replicas: number of processes that share the limit, for `local`.
        lease: units to take at once for a key that is in demand, which then needs a round trip
            only now and then. Units of a lease that a process does not use are lost.
        max_keys: number of keys that are remembered in this process, which bounds its memory.
        clock: monotonic seconds.
        sleep: waits that many seconds.
        server_time: returns microseconds, instead of the server's clock; for tests.

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
        sleep: Callable[[float], None] = default_sleep,
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
        self._execute = cast("Callable[..., object]", client.execute_command)
        self._owns_client = False
        self._sleep = sleep
        self._warn_of_retries(client)

    @classmethod
    def from_url(
        cls,
        url: str,
        limits: LimitConfig | Sequence[LimitConfig],
        *,
        name: str,
        timeout_seconds: float = 0.05,
        connect_timeout_seconds: float = 1.0,
        on_failure: FailurePolicy = "local",
        replicas: int = 1,
        lease: int = 1,
    ) -> Self:
        """A limiter that owns its client; `close` closes it.

        Args:
            timeout_seconds: how long Redis may take to respond.
            connect_timeout_seconds: how long it may take to accept a connection.
        """
        client = make_client(
            url, timeout_seconds=timeout_seconds, connect_timeout_seconds=connect_timeout_seconds
        )
        limiter = cls(
            client, limits, name=name, on_failure=on_failure, replicas=replicas, lease=lease
        )
        limiter._owns_client = True
        return limiter

    def try_acquire(self, key: LimitKey, cost: int = 1) -> Decision:
        """Take `cost` units of the key's limits if they are free now.

        Args:
            key: a text, a whole number, bytes, or a tuple of these.
            cost: units; 0 only looks.

        Raises:
            InvalidValueError: `cost` is negative or not a whole number, or `key` of another type.
        """
        name = encode_key(key)
        decision = self._local.decide(name, cost)
        if decision is not None:
            return decision
        return _steps.run(self._decide_by_redis(name, cost), self._send)

    def acquire(self, key: LimitKey, cost: int = 1, *, timeout: float | None = None) -> None:
        """Wait until `cost` units are free and take them.

        Args:
            timeout: longest wait in seconds; the current `deadline` can make it shorter.

        Raises:
            RateLimitedError: the wait would be too long; raised at once, without waiting.
            InvalidValueError: as of `try_acquire`, or `cost` is above the burst and so never free.
        """
        ends_at = self._wait_until(cost, timeout)
        while not (decision := self.try_acquire(key, cost)).allowed and not is_testing():
            self._sleep(self._seconds_to_retry(decision, ends_at))

    def close(self) -> None:
        """Close the client that `from_url` made; one that was given stays open."""
        if self._owns_client:
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

    def _send(self, command: _steps.Command) -> object:
        return self._execute(*command)
