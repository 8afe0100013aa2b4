"""What a decision of the limiter on Redis costs, against a PING by the same client.

    REDIS_URL=redis://127.0.0.1:6379 python benchmarks/governance/bench_redis.py [--check] [--smoke]

Medians over the rounds, with the least and the greatest; a PING and a decision are timed in turn,
and the medians of both compared, so that what else the machine does meets both.
Round trips are the commands that the server has counted. `--check` exits 1 when a bound does not
hold.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from statistics import median
from uuid import uuid4

import redis
import redis.asyncio

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the checkout, for benchmarks.*
from benchmarks.report import Report, arguments

from microservice_governance import AsyncRedisRateLimiter, LimitConfig, RedisRateLimiter

SERIAL = 1500
TOGETHER = 50
PLENTY = LimitConfig(rate=900_000)
NAME = f"bench-{uuid4().hex[:8]}"


def commands(client: redis.Redis) -> int:
    """Commands the server has run; asking is one."""
    return int(client.info("stats")["total_commands_processed"])


async def serial(work: Callable[[], Awaitable[object]]) -> float:
    began = time.perf_counter()
    for _ in range(SERIAL):
        await work()
    return (time.perf_counter() - began) / SERIAL


async def in_turns(
    floor: Callable[[], Awaitable[object]], work: Callable[[], Awaitable[object]]
) -> float:
    """The ratio of the medians, one of each in turn: what else the machine does meets both."""
    floors, works = [], []
    for _ in range(SERIAL):
        began = time.perf_counter()
        await floor()
        middle = time.perf_counter()
        await work()
        works.append(time.perf_counter() - middle)
        floors.append(middle - began)
    return median(works) / median(floors)


def plainly_in_turns(floor: Callable[[], object], work: Callable[[], object]) -> float:
    floors, works = [], []
    for _ in range(SERIAL):
        began = time.perf_counter()
        floor()
        middle = time.perf_counter()
        work()
        works.append(time.perf_counter() - middle)
        floors.append(middle - began)
    return median(works) / median(floors)


async def together(limiter: AsyncRedisRateLimiter) -> float:
    """Seconds per decision of fifty callers, each on a key of its own."""

    async def caller(number: int) -> None:
        for _ in range(SERIAL // TOGETHER):
            await limiter.try_acquire(f"user:{number}")

    began = time.perf_counter()
    await asyncio.gather(*(caller(number) for number in range(TOGETHER)))
    return (time.perf_counter() - began) / SERIAL


async def speed(url: str, report: Report) -> None:
    client, sync_client = redis.asyncio.Redis.from_url(url), redis.Redis.from_url(url)
    limiter = AsyncRedisRateLimiter(client, PLENTY, name=NAME, timeout_seconds=5)
    sync_limiter = RedisRateLimiter(sync_client, PLENTY, name=NAME)
    later, now, many = [], [], []
    for _ in range(report.rounds):
        later.append(await in_turns(client.ping, lambda: limiter.try_acquire("user:7")))
        alone = await serial(lambda: limiter.try_acquire("user:7"))
        many.append(alone / await together(limiter))
        now.append(plainly_in_turns(sync_client.ping, lambda: sync_limiter.try_acquire("user:7")))
    report.add("asyncio, one after the other, x PING", later, bound=1.5)
    report.add("plain, one after the other, x PING", now, bound=1.5)
    report.add("50 callers at once, x the throughput of one", many, bound=3, at_least=True)
    await round_trips(report, limiter, client, sync_client)
    keys(report, sync_client)
    await limiter.aclose()
    sync_client.close()


async def round_trips(
    report: Report,
    limiter: AsyncRedisRateLimiter,
    client: redis.asyncio.Redis,
    sync_client: redis.Redis,
) -> None:
    before = commands(sync_client)
    for _ in range(100):
        await limiter.try_acquire("user:8")
    allowed = (commands(sync_client) - before - 1) / 100
    slow = AsyncRedisRateLimiter(
        client, LimitConfig(rate=1, per_seconds=3600), name=f"{NAME}-slow", timeout_seconds=5
    )
    await slow.try_acquire("u")
    await slow.try_acquire("u")
    before = commands(sync_client)
    for _ in range(100):
        await slow.try_acquire("u")
    denied = (commands(sync_client) - before - 1) / 100
    # TIME, GET and SET inside the script count as commands, and are no round trips.
    report.add("commands per decision (EVALSHA, TIME, GET, SET)", [allowed], unit="", bound=4)
    report.add("commands per decision of a denied key", [denied], unit="", bound=0)


def keys(report: Report, client: redis.Redis) -> None:
    limiter = RedisRateLimiter(client, LimitConfig(rate=10, per_seconds=3600), name=f"{NAME}-mem")
    for number in range(1000):
        limiter.try_acquire(f"user:{number}")
    found = list(client.scan_iter(f"rl:{{{NAME}*", count=1000))
    sizes = [float(client.memory_usage(key) or 0) for key in found]
    forever = sum(client.pttl(key) < 0 for key in found)
    report.add("bytes per key (MEMORY USAGE)", sizes, unit="bytes", bound=100)
    report.add("keys without a time to live", [float(forever)], unit="", bound=0)


def main() -> int:
    options = arguments(__doc__, rounds=7).parse_args()
    url = os.environ.get("REDIS_URL", "")
    if not url:
        print("REDIS_URL is not set: nothing measured")
        return 0
    report = Report(__file__, options)
    asyncio.run(speed(url, report))
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
