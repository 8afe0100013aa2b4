"""Threads and event loops at every policy at once; run by test_stress under `python -X dev`."""

import asyncio
import random
import sys
import threading
import time
from itertools import pairwise

from microservice_governance import (
    AdaptiveLimit,
    BreakerConfig,
    Bulkhead,
    CircuitBreaker,
    FixedBackoff,
    Hedge,
    KeyedCircuitBreakers,
    LimitConfig,
    RateLimiter,
    RejectedError,
    Retry,
    RetryBudget,
    RetryConfig,
    StateChanged,
    Timeout,
    TimeoutExceededError,
    pipeline,
)

DOWN = ConnectionError("down")
bulkhead = Bulkhead(8, queue=200)
adaptive = AdaptiveLimit("gradient2", initial=50)
breaker = CircuitBreaker(
    "stress",
    BreakerConfig(
        consecutive_failures=4,
        failure_rate_threshold=None,
        open_seconds=0.002,
        max_half_open_seconds=5,
        permitted_half_open_calls=2,
    ),
)
keyed = KeyedCircuitBreakers(max_keys=20)
limit = RateLimiter(LimitConfig(rate=1_000_000, burst=1_000_000))
retry = Retry(
    RetryConfig(on=(ConnectionError,), attempts=2, backoff=FixedBackoff(0.0)), budget=RetryBudget()
)
guarded = pipeline(Timeout(20), bulkhead, adaptive, retry, breaker, limit, Timeout(10))
changes: list[StateChanged] = []
lock = threading.Lock()


class Inside:
    """How many calls are inside the pipeline, and were at most."""

    now = 0
    most = 0

    def __enter__(self) -> None:
        with lock:
            Inside.now += 1
            Inside.most = max(Inside.most, Inside.now)

    def __exit__(self, *_: object) -> None:
        with lock:
            Inside.now -= 1


@guarded
def call(fails: bool) -> None:
    with Inside():
        if fails:
            raise DOWN


@guarded
async def acall(fails: bool) -> None:
    with Inside():
        await asyncio.sleep(0)
        if fails:
            raise DOWN


def in_a_thread(seed: int, until: float) -> None:
    rng = random.Random(seed)
    while time.monotonic() < until:
        try:
            call(rng.random() < 0.2)
            keyed.get(rng.randrange(100)).run(str)
        except (ConnectionError, RejectedError):
            continue


async def in_a_task(rng: random.Random, until: float) -> None:
    hedge = Hedge(delay=0.0)
    while time.monotonic() < until:
        task = asyncio.ensure_future(hedge.arun(acall, rng.random() < 0.2))
        if rng.random() < 0.2:
            await asyncio.sleep(0)
            task.cancel()
        try:
            await task
        except (ConnectionError, RejectedError, TimeoutExceededError, asyncio.CancelledError):
            continue


async def on_a_loop(seed: int, until: float) -> None:
    rng = random.Random(seed)
    await asyncio.gather(*(in_a_task(rng, until) for _ in range(20)))


def main(seconds: float) -> None:
    breaker.subscribe(lambda e: changes.append(e) if isinstance(e, StateChanged) else None)
    until = time.monotonic() + seconds
    threads = [threading.Thread(target=in_a_thread, args=(seed, until)) for seed in range(4)]
    threads += [
        threading.Thread(target=lambda seed=seed: asyncio.run(on_a_loop(seed, until)))
        for seed in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "somebody waits for ever"
    assert Inside.most <= 8, f"{Inside.most} were inside at once"
    assert (Inside.now, bulkhead.in_flight, bulkhead.waiting, adaptive.in_flight) == (0, 0, 0, 0)
    for before, after in pairwise(changes):
        assert before.new == after.old, f"{before} then {after}"
    assert len(changes) > 2
    time.sleep(0.01)
    for _ in range(10):
        breaker.run(str)
    assert breaker.current_state == "closed"
    assert len(keyed) <= 20


if __name__ == "__main__":
    main(float(sys.argv[1]))
