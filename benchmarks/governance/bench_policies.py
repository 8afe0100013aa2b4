"""Every speed bound of microservice-governance, as ratios to a bare call in the same process.

    python benchmarks/governance/bench_policies.py [--rounds 9] [--check] [--smoke]

Each figure is the median over the rounds, with the least and the greatest; the bare call and the
candidate are timed in turns, in CPU time, so that a change of clock speed meets both and a busy
machine disturbs less. pybreaker and purgatory stand beside. `--check` exits 1 when a bound does not
hold.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import time
import tracemalloc
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import pybreaker
from purgatory import AsyncCircuitBreakerFactory

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the checkout, for benchmarks.*
from benchmarks.report import Report, arguments

from microservice_governance import (
    BreakerConfig,
    Bulkhead,
    CircuitBreaker,
    KeyedCircuitBreakers,
    LimitConfig,
    RateLimiter,
    Retry,
    RetryBudget,
    RetryConfig,
    Timeout,
    pipeline,
)

LOOP = 20_000
PLENTY = LimitConfig(rate=1_000_000_000)
ON = RetryConfig(on=(OSError,))


def call() -> int:
    return 1


async def acall() -> int:
    return 1


@dataclass
class Row:
    """One candidate, and how many bare calls it may cost."""

    name: str
    bound: float | None
    work: Any
    ratios: list[float] = field(default_factory=list)


def seconds(work: Callable[[], object]) -> float:
    """Per call, best of three loops the call is written into."""
    space: dict[str, Any] = {"work": work}
    source = "def run(times):\n    for _ in times:\n        work()\n"
    exec(source, space)  # noqa: S102 - our own text
    return best(lambda: space["run"](range(LOOP)))


def best(loop: Callable[[], object]) -> float:
    least = float("inf")
    for _ in range(3):
        began = time.process_time()
        loop()
        least = min(least, time.process_time() - began)
    return least / LOOP


async def aseconds(work: Callable[[], Awaitable[object]]) -> float:
    least = float("inf")
    for _ in range(3):
        began = time.process_time()
        for _ in range(LOOP):
            await work()
        least = min(least, time.process_time() - began)
    return least / LOOP


def refused(guarded: Callable[[], object]) -> Callable[[], object]:
    def ours() -> None:
        try:
            guarded()
        except pybreaker.CircuitBreakerError:
            return

    return ours


def opened() -> CircuitBreaker:
    breaker = CircuitBreaker("open", BreakerConfig(open_seconds=300))
    breaker.open()
    return breaker


def their_opened() -> pybreaker.CircuitBreaker:
    breaker = pybreaker.CircuitBreaker(fail_max=5, reset_timeout=300)
    breaker.open()
    return breaker


def sync_rows() -> list[Row]:
    slow = BreakerConfig(slow_call_rate_threshold=0.5)
    timed = BreakerConfig(sliding_window_type="time")
    theirs = pybreaker.CircuitBreaker(fail_max=5)
    their_open = their_opened()
    one_loop = RateLimiter(PLENTY, thread_safe=False)
    permits = CircuitBreaker("permits")
    return [
        Row("breaker, count window", 40, CircuitBreaker("count")(call)),
        Row("breaker, slow calls", 40, CircuitBreaker("slow", slow)(call)),
        Row("breaker, time window", 40, CircuitBreaker("time", timed)(call)),
        Row("  pybreaker.call", None, lambda: theirs.call(call)),
        Row("  breaker.call (its name)", None, lambda: BARE.call(call)),
        Row("  permit: acquire().release()", None, lambda: permits.acquire().release()),
        Row("breaker, refused", 60, refused(opened()(call))),
        Row("  pybreaker, refused", None, refused(lambda: their_open.call(call))),
        Row("retry", 8, Retry(ON)(call)),
        Row("  retry with a budget", None, Retry(ON, budget=RetryBudget())(call)),
        Row("try_acquire in one loop", 20, one_loop.try_acquire),
        Row("try_acquire, thread-safe", 30, RateLimiter(PLENTY).try_acquire),
        Row("  bulkhead", None, Bulkhead(10)(call)),
    ]


BARE = CircuitBreaker("call")


async def async_rows() -> list[Row]:
    slow = BreakerConfig(slow_call_rate_threshold=0.5)
    timed = BreakerConfig(sliding_window_type="time")
    theirs = pybreaker.CircuitBreaker(fail_max=5)
    purgatory = await AsyncCircuitBreakerFactory().get_breaker("orders")

    async def in_pybreaker() -> None:
        with theirs.calling():
            await acall()

    async def in_purgatory() -> None:
        async with purgatory:
            await acall()

    four = pipeline(Bulkhead(10), Retry(ON), CircuitBreaker("four"), RateLimiter(PLENTY))
    return [
        Row("breaker, count window", 6.5, CircuitBreaker("count")(acall)),
        Row("breaker, slow calls", 6.5, CircuitBreaker("slow", slow)(acall)),
        Row("breaker, time window", 6.5, CircuitBreaker("time", timed)(acall)),
        Row("  pybreaker, with calling()", None, in_pybreaker),
        Row("  purgatory, async with", None, in_purgatory),
        Row("retry", 4, Retry(ON)(acall)),
        Row("  retry with a budget", None, Retry(ON, budget=RetryBudget())(acall)),
        Row("bulkhead", 4.5, Bulkhead(10)(acall)),
        Row("  rate limit", None, RateLimiter(PLENTY)(acall)),
        Row("pipeline of four, decorated", 18, four(acall)),
        Row("  pipeline of four, arun", None, lambda: four.arun(acall)),
        Row("  timeout with a timer", None, Timeout(60)(acall)),
    ]


def keyed_bytes(count: int) -> float:
    """What one of so many idle breakers costs, key and map included."""
    gc.collect()
    tracemalloc.start()
    breakers = KeyedCircuitBreakers(max_keys=count)
    for number in range(count):
        breakers.get(f"10.0.{number // 256}.{number % 256}:8080")
    gc.collect()
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(breakers) == count
    return held / count


async def measure(report: Report) -> list[Row]:
    plain, later = sync_rows(), await async_rows()
    floors: list[float] = []
    for _ in range(report.rounds):
        for row in plain:
            floors.append(seconds(call))
            row.ratios.append(seconds(row.work) / floors[-1])
    report.note(f"sync, x a bare call ({median(floors) * 1e9:.0f} ns)")
    for row in plain:
        report.add(f"sync: {row.name.strip()}", row.ratios, bound=row.bound)
    floors = []
    for _ in range(report.rounds):
        for row in later:
            floors.append(await aseconds(acall))
            row.ratios.append(await aseconds(row.work) / floors[-1])
    report.note(f"async, x a bare await ({median(floors) * 1e9:.0f} ns)")
    for row in later:
        report.add(f"async: {row.name.strip()}", row.ratios, bound=row.bound)
    return [*plain, *later]


def main() -> int:
    report = Report(__file__, arguments(__doc__, rounds=9).parse_args())
    rows = asyncio.run(measure(report))
    by_name = {row.name: row for row in rows[::-1]}
    ours, theirs = by_name["  breaker.call (its name)"], by_name["  pybreaker.call"]
    report.add("our call, x pybreaker's", [median(ours.ratios) / median(theirs.ratios)], bound=1)
    count = report.count(100_000, 10_000)
    report.add(f"{count:,} idle breakers, each", [keyed_bytes(count)], unit="bytes", bound=2048)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
