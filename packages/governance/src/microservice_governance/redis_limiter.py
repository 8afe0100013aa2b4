"""Limits shared through Redis, for redis-py and for its asyncio client."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Self, cast

from microservice_core import InvalidValueError

from ._redis import (
    FAILURES,
    AsyncClient,
    AsyncRedis,
    AsyncRedisCluster,
    Client,
    NoScriptError,
    Redis,
)
from .deadline import deadline
from .distributed_limit import DistributedLimit, FailurePolicy
from .errors import RateLimitedError
from .limit_config import Decision, LimitConfig
from .redis_script import RedisLimits, read_grant
from .testing_mode import async_sleep, is_testing
from .testing_mode import sleep as plain_sleep

__all__ = ("AsyncRedisRateLimiter", "RedisRateLimiter")

_LARGEST_BATCH = 128

Answer = bytes | str
Arguments = list[bytes | str]


class _Shared:
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
            limit = self.limits[0]
            raise RateLimitedError(self.name, limit.rate, limit.per_seconds, wait)
        return wait


class RedisRateLimiter(_Shared):
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


class AsyncRedisRateLimiter(_Shared):
    """As `RedisRateLimiter`, for an asyncio client; decisions that meet share one round trip.

    Belongs to the event loop of its client.

    Args:
        client: of `redis.asyncio`, for one server or a cluster; RESP 2 or 3, `decode_responses`
            or not.
        timeout_seconds: how long Redis may take to answer.
        sleep: waits that many seconds.
    """

    def __init__(
        self,
        client: AsyncClient,
        limits: LimitConfig | Sequence[LimitConfig],
        *,
        name: str,
        timeout_seconds: float = 0.05,
        on_failure: FailurePolicy = "local",
        replicas: int = 1,
        lease: int = 1,
        max_keys: int = 10_000,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = async_sleep,
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
        if not 0 < timeout_seconds <= 60:
            raise InvalidValueError("timeout_seconds", timeout_seconds, "above 0, at most 60")
        self._client = client
        self._timeout_seconds = timeout_seconds
        self._sleep = sleep
        # In a cluster a pipeline cannot carry scripts.
        self._alone = isinstance(client, AsyncRedisCluster)
        self._asking = 0
        self._queue: list[tuple[Arguments, asyncio.Future[Answer]]] = []
        self._batches: set[asyncio.Task[None]] = set()

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
        """A limiter with a client of its own, which `aclose` closes."""
        return cls(
            AsyncRedis.from_url(url),
            limits,
            name=name,
            timeout_seconds=timeout_seconds,
            on_failure=on_failure,
            replicas=replicas,
            lease=lease,
        )

    async def try_acquire(self, key: str, cost: int = 1) -> Decision:
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
                async with asyncio.timeout(self._timeout_seconds):
                    granted = read_grant(await self._ask(self._arguments(key, cost)))
            except FAILURES as error:
                permit.release(error)
                return self._limit.without_redis(key, cost)
        return self._limit.learned(key, cost, granted)

    async def acquire(self, key: str, cost: int = 1, *, timeout: float | None = None) -> None:
        """Wait until `cost` units are free and take them.

        Args:
            timeout: seconds to wait at most; the `deadline` in force counts as well.

        Raises:
            RateLimitedError: the wait would be longer than allowed; told at once.
            InvalidValueError: `cost` is negative, or above the burst and so never free.
        """
        ends_at = self._ends_at(cost, timeout)
        while not (decision := await self.try_acquire(key, cost)).allowed and not is_testing():
            await self._sleep(self._wait_after(decision, ends_at))

    async def aclose(self) -> None:
        """End what is under way and close the client."""
        for batch in self._batches:
            batch.cancel()
        await asyncio.gather(*self._batches, return_exceptions=True)
        await self._client.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def _ask(self, arguments: Arguments) -> Answer:
        if self._asking and not self._alone:
            return await self._enqueue(arguments)
        self._asking += 1
        try:
            return await self._ask_alone(arguments)
        finally:
            self._asking -= 1

    async def _ask_alone(self, arguments: Arguments) -> Answer:
        client = self._client
        try:
            answer = await client.execute_command("EVALSHA", self._rules.sha, *arguments)
        except NoScriptError:
            answer = await client.execute_command("EVAL", self._rules.script, *arguments)
        return cast("Answer", answer)

    def _enqueue(self, arguments: Arguments) -> asyncio.Future[Answer]:
        """Those who ask in the same turn of the loop as somebody else go together."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Answer] = loop.create_future()
        if not self._queue:
            loop.call_soon(self._send_queue)
        self._queue.append((arguments, answer))
        return answer

    def _send_queue(self) -> None:
        queue, self._queue = self._queue, []
        for first in range(0, len(queue), _LARGEST_BATCH):
            batch = asyncio.ensure_future(self._ask_together(queue[first : first + _LARGEST_BATCH]))
            self._batches.add(batch)
            batch.add_done_callback(self._batches.discard)

    async def _ask_together(self, batch: list[tuple[Arguments, asyncio.Future[Answer]]]) -> None:
        try:
            answers = await self._pipelined(batch)
        except BaseException as error:
            for _, waiting in batch:
                if not waiting.done():
                    waiting.set_exception(_told(error))
            if not isinstance(error, Exception):
                raise
            return
        for (arguments, waiting), answer in zip(batch, answers, strict=True):
            lost = isinstance(answer, NoScriptError)
            _settle(waiting, await self._loaded(arguments) if lost else answer)

    async def _pipelined(
        self, batch: list[tuple[Arguments, asyncio.Future[Answer]]]
    ) -> list[object]:
        client = cast("AsyncRedis", self._client)
        async with asyncio.timeout(self._timeout_seconds):
            pipe = client.pipeline(transaction=False)
            for arguments, _ in batch:
                pipe.execute_command("EVALSHA", self._rules.sha, *arguments)
            return list(await pipe.execute(raise_on_error=False))

    async def _loaded(self, arguments: Arguments) -> object:
        try:
            return await self._ask_alone(arguments)
        except FAILURES as error:
            return error


def _told(error: BaseException) -> BaseException:
    """Those who wait were not cancelled themselves when what they wait for was."""
    if isinstance(error, asyncio.CancelledError):
        return TimeoutError("the limiter was closed")
    return error


def _settle(waiting: asyncio.Future[Answer], answer: object) -> None:
    if waiting.done():
        return
    if isinstance(answer, BaseException):
        waiting.set_exception(answer)
    else:
        waiting.set_result(cast("Answer", answer))
