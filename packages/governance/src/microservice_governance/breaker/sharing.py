"""Sharing what breakers found out: a circuit that opens in enough processes opens in all.

Each process decides by what it sees itself; no call waits for Redis. Only openings are shared: when
`quorum` processes have opened a circuit within `window_seconds`, it is open for all, once. Each
finds out by its own trials when it may close. While Redis is away each process is on its own.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self, cast

from microservice_core import InvalidValueError
from microservice_governance._redis import FAILURES, AsyncClient, Client
from microservice_governance.events import PolicyEvent, StateChanged

from .circuit_breaker import CircuitBreaker
from .config import BreakerState
from .keyed import KeyedCircuitBreakers

__all__ = ("AsyncRedisBreakerSharing", "RedisBreakerSharing")

_log = logging.getLogger(__name__)

# KEYS: who reported it, whether it is open, how often it was. ARGV: reporter, window, quorum and
# open time, in milliseconds. An epoch is given once per opening; nothing stays without a TTL.
_REPORT = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local window, quorum, open = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - window)
redis.call('ZREMRANGEBYSCORE', KEYS[1], now + window, '+inf')
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('PEXPIRE', KEYS[1], window)
if redis.call('ZCARD', KEYS[1]) < quorum or redis.call('EXISTS', KEYS[2]) == 1 then return 0 end
local epoch = redis.call('INCR', KEYS[3])
redis.call('PEXPIRE', KEYS[3], 604800000)
redis.call('SET', KEYS[2], epoch, 'PX', open)
return epoch
"""

_AT_ONCE = 500
_ESCAPED = str.maketrans({"{": "%7B", "}": "%7D", "%": "%25"})

Breakers = KeyedCircuitBreakers | Iterable[CircuitBreaker]


class _Sharing:
    """What both faces have in common; nothing here waits."""

    def __init__(
        self,
        breakers: Breakers,
        *,
        group: str,
        quorum: int = 2,
        window_seconds: float = 10.0,
        every_seconds: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        _check(group, quorum, window_seconds, every_seconds)
        self._breakers = breakers if isinstance(breakers, KeyedCircuitBreakers) else list(breakers)
        self._group = group
        self._quorum = quorum
        self._window_seconds = window_seconds
        self._every_seconds = every_seconds
        self._clock = clock
        self._reporter = uuid.uuid4().hex
        self._seen: dict[str, str] = {}
        self._reports: dict[str, float] = {}
        self._lock = threading.Lock()
        self._applying = threading.local()
        self._reachable = True
        self._ends: list[Callable[[], None]] = []

    def _begin(self) -> None:
        if isinstance(self._breakers, KeyedCircuitBreakers):
            self._ends = [self._breakers.subscribe(self._heard)]
        else:
            self._ends = [breaker.subscribe(self._heard) for breaker in self._breakers]

    def _stop(self) -> None:
        for end in self._ends:
            end()

    def _heard(self, event: PolicyEvent) -> None:
        opened = isinstance(event, StateChanged) and event.new == BreakerState.OPEN
        if opened and not getattr(self._applying, "now", False):
            with self._lock:
                self._reports[event.name] = self._clock()
            self._wake()

    def _wake(self) -> None:
        """There is something to report."""

    def _due(self) -> list[tuple[str, list[str | int]]]:
        """The reports to make, with the arguments of the script; old ones are dropped."""
        with self._lock:
            reports, self._reports = self._reports, {}
        fresh = self._clock() - self._window_seconds
        by_name = {str(breaker.name): breaker for breaker in self._breakers}
        return [
            (name, self._arguments(by_name[name]))
            for name, at in reports.items()
            if at >= fresh and name in by_name
        ]

    def _again(self, names: Sequence[str]) -> None:
        """Reports that did not arrive are made later, as long as they are fresh."""
        with self._lock:
            for name in names:
                self._reports.setdefault(name, self._clock())

    def _arguments(self, breaker: CircuitBreaker) -> list[str | int]:
        key = self._key(breaker)
        open_seconds = breaker.retry_after or breaker.config.open_seconds
        times = [int(self._window_seconds * 1000), self._quorum, max(1, int(open_seconds * 1000))]
        return [3, f"{key}:by", key, f"{key}:epoch", self._reporter, *times]

    def _key(self, breaker: CircuitBreaker) -> str:
        return f"cb:{{{self._group}}}:{str(breaker.name).translate(_ESCAPED)}"

    def _batches(self) -> list[list[CircuitBreaker]]:
        everyone = list(self._breakers)
        names = {str(breaker.name) for breaker in everyone}
        self._seen = {name: epoch for name, epoch in self._seen.items() if name in names}
        return [everyone[at : at + _AT_ONCE] for at in range(0, len(everyone), _AT_ONCE)]

    def _apply(
        self, breakers: Sequence[CircuitBreaker], epochs: Sequence[str | bytes | None]
    ) -> None:
        self._applying.now = True
        try:
            for breaker, found in zip(breakers, epochs, strict=True):
                if found is not None:
                    epoch = found.decode() if isinstance(found, bytes) else found
                    self._apply_one(breaker, epoch)
        finally:
            self._applying.now = False

    def _apply_one(self, breaker: CircuitBreaker, epoch: str) -> None:
        name = str(breaker.name)
        if self._seen.get(name) == epoch:
            return
        self._seen[name] = epoch
        if breaker.current_state is BreakerState.CLOSED:
            breaker.open()

    def _answered(self) -> None:
        if not self._reachable:
            self._reachable = True
            _log.info("breakers of %r are shared through Redis again", self._group)

    def _unanswered(self) -> None:
        if self._reachable:
            self._reachable = False
            _log.warning(
                "breakers of %r have no answer from Redis: each process decides alone until it "
                "is back",
                self._group,
            )


class AsyncRedisBreakerSharing(_Sharing):
    """Shares openings from a task of its own: `async with AsyncRedisBreakerSharing(...):`.

    Args:
        client: of `redis.asyncio`.
        breakers: whose openings are shared; theirs are the names that all processes agree on.
        group: of processes that share; part of the keys.
        quorum: how many processes have to have opened a circuit.
        window_seconds: within that time.
        every_seconds: how often the shared state is read.

    Raises:
        InvalidValueError: a setting out of its range.
    """

    def __init__(
        self,
        client: AsyncClient,
        breakers: Breakers,
        *,
        group: str,
        quorum: int = 2,
        window_seconds: float = 10.0,
        every_seconds: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(
            breakers,
            group=group,
            quorum=quorum,
            window_seconds=window_seconds,
            every_seconds=every_seconds,
            clock=clock,
        )
        self._client = client
        self._news = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing = False
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._begin()
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Stop sharing; the client stays open."""
        self._stop()
        # A client that is interrupted may take the cancellation for a failure of its connection,
        # so the task is told in both ways.
        self._closing = True
        self._news.set()
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def exchange(self) -> None:
        """Report and read once, now."""
        due = self._due()
        try:
            for _, arguments in due:
                await self._client.execute_command("EVAL", _REPORT, *arguments)
            for batch in self._batches():
                answer = await self._client.mget([self._key(breaker) for breaker in batch])
                self._apply(batch, cast("Sequence[str | bytes | None]", answer))
            self._answered()
        except FAILURES:
            self._again([name for name, _ in due])
            self._unanswered()

    def _wake(self) -> None:
        if self._loop is not None and self._reachable:
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._news.set)

    async def _run(self) -> None:
        while not self._closing:
            self._news.clear()
            await self.exchange()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._every_seconds):
                    await self._news.wait()


class RedisBreakerSharing(_Sharing):
    """As `AsyncRedisBreakerSharing`, from a thread of its own: `with RedisBreakerSharing(...):`.

    Give the client a `socket_timeout`, or closing may wait for a Redis that does not answer.

    Args:
        client: of redis-py.
    """

    def __init__(
        self,
        client: Client,
        breakers: Breakers,
        *,
        group: str,
        quorum: int = 2,
        window_seconds: float = 10.0,
        every_seconds: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(
            breakers,
            group=group,
            quorum=quorum,
            window_seconds=window_seconds,
            every_seconds=every_seconds,
            clock=clock,
        )
        self._client = client
        self._news = threading.Event()
        self._closing = False
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._begin()
        self._thread = threading.Thread(
            target=self._run, name=f"breakers of {self._group}", daemon=True
        )
        self._thread.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop sharing; the client stays open."""
        self._stop()
        self._closing = True
        self._news.set()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join()

    def exchange(self) -> None:
        """Report and read once, now."""
        due = self._due()
        ask = cast("Callable[..., object]", self._client.execute_command)
        try:
            for _, arguments in due:
                ask("EVAL", _REPORT, *arguments)
            for batch in self._batches():
                answer = self._client.mget([self._key(breaker) for breaker in batch])
                self._apply(batch, cast("Sequence[str | bytes | None]", answer))
            self._answered()
        except FAILURES:
            self._again([name for name, _ in due])
            self._unanswered()

    def _wake(self) -> None:
        if self._reachable:
            self._news.set()

    def _run(self) -> None:
        while not self._closing:
            self._news.clear()
            self.exchange()
            self._news.wait(self._every_seconds)


def _check(group: str, quorum: int, window_seconds: float, every_seconds: float) -> None:
    if not group or set(group) & set("{}"):
        raise InvalidValueError("group", group, "a text without braces")
    if not 1 <= quorum <= 10_000:
        raise InvalidValueError("quorum", quorum, "a whole number from 1 to 10000")
    if not 0.1 <= window_seconds <= 3600:
        raise InvalidValueError("window_seconds", window_seconds, "from 0.1 to 3600")
    if not 0.01 <= every_seconds <= 60:
        raise InvalidValueError("every_seconds", every_seconds, "from 0.01 to 60")
