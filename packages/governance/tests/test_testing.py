"""`testing()`: no waits, the same dice each time."""

import asyncio
from collections.abc import Callable

import pytest

from microservice_governance import (
    CallRetried,
    LimitConfig,
    PacedLimiter,
    PolicyEvent,
    RateLimitedError,
    RateLimiter,
    Retry,
    RetryConfig,
    testing,
)


def waits(policy: Retry, call: Callable[[], object]) -> list[float]:
    events: list[PolicyEvent] = []
    unsubscribe = policy.subscribe(events.append)
    with pytest.raises(OSError, match="down"):
        call()
    unsubscribe()
    return [event.wait_seconds for event in events if isinstance(event, CallRetried)]


def fails() -> None:
    raise OSError("down")


async def fails_later() -> None:
    raise OSError("down")


def test_retries_follow_at_once_with_the_same_waits_each_time() -> None:
    policy = Retry(RetryConfig(on=(OSError,), attempts=100, backoff=lambda _: 3600.0))
    with testing():
        first = waits(policy, lambda: policy.run(fails))
    with testing():
        assert waits(policy, lambda: asyncio.run(policy.arun(fails_later))) == first
    with testing(seed=7):
        assert waits(policy, lambda: policy.run(fails)) != first
    assert len(first) == 99
    assert sum(first) > 3600


async def test_limiters_let_those_pass_who_would_wait_and_refuse_as_ever() -> None:
    config = LimitConfig(rate=1, per_seconds=3600)
    limiter, paced = RateLimiter(config), PacedLimiter(config)
    with testing():
        for _ in range(20):
            await limiter.acquire()
            await paced.acquire()
        with pytest.raises(RateLimitedError):
            limiter.run(fails)


def test_blocks_nest_and_the_dice_are_put_back() -> None:
    from microservice_governance.testing_mode import is_testing, rng

    state = rng.getstate()
    with testing(), testing():
        rng.random()
    assert not is_testing()
    assert rng.getstate() == state


def test_a_sleep_of_ones_own_is_kept() -> None:
    naps: list[float] = []
    policy = Retry(
        RetryConfig(on=(OSError,), backoff=lambda _: 5.0, jitter="none"), sleep=naps.append
    )
    with testing(), pytest.raises(OSError, match="down"):
        policy.run(fails)
    assert naps == [5, 5]
