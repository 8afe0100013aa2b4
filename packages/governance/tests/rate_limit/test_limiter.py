import asyncio
from collections import deque
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from microservice_core import InvalidValueError
from microservice_governance import (
    Decision,
    LimitConfig,
    RateLimitedError,
    RateLimiter,
    deadline,
)

FIVE = LimitConfig(rate=5, per_seconds=5.0)


def test_decisions_are_those_of_redis_cell(clock: Any) -> None:
    limiter = RateLimiter(FIVE, clock=clock)
    assert limiter.try_acquire(6) == Decision(False, 5, -1, 0)
    rows = [limiter.try_acquire() for _ in range(5)]
    assert rows == [Decision(True, 4 - n, -1, n + 1) for n in range(5)]
    assert limiter.try_acquire() == Decision(False, 0, 1, 5)
    clock.advance(1)
    assert limiter.try_acquire() == Decision(True, 0, -1, 5)


def test_a_cost_of_nothing_only_looks(clock: Any) -> None:
    limiter = RateLimiter(FIVE, clock=clock)
    limiter.try_acquire(2)
    assert limiter.try_acquire(0) == limiter.try_acquire(0) == Decision(True, 3, -1, 2)


@given(
    rate=st.integers(1, 20),
    per=st.sampled_from([0.1, 1.0, 3.0, 60.0]),
    burst=st.integers(1, 20),
    steps=st.lists(st.tuples(st.floats(0, 2), st.integers(1, 5)), max_size=80),
)
def test_no_stretch_of_time_lets_more_through_than_promised(
    rate: int, per: float, burst: int, steps: list[tuple[float, int]]
) -> None:
    now = 50.0
    limiter = RateLimiter(LimitConfig(rate=rate, per_seconds=per, burst=burst), clock=lambda: now)
    passed: list[tuple[float, int]] = []
    for wait, cost in steps:
        now += wait * per / rate
        if limiter.try_acquire(cost).allowed:
            passed.append((now, cost))
    for first in range(len(passed)):
        taken = 0
        for time, cost in passed[first:]:
            taken += cost
            assert taken <= burst + rate * (time - passed[first][0]) / per + 1e-6


@given(rate=st.integers(1, 1000), burst=st.integers(1, 50))
def test_the_whole_burst_is_free_after_a_quiet_time(rate: int, burst: int) -> None:
    now = 7.3
    limiter = RateLimiter(LimitConfig(rate=rate, burst=burst), clock=lambda: now)
    assert limiter.try_acquire(burst).allowed
    denied = limiter.try_acquire()
    assert not denied.allowed
    now += denied.reset_after + 1e-6
    assert limiter.try_acquire(burst).allowed


@given(cost=st.integers(1, 5))
def test_waiting_as_long_as_told_is_enough(cost: int) -> None:
    now = 0.0
    limiter = RateLimiter(FIVE, clock=lambda: now)
    limiter.try_acquire(5)
    now += limiter.try_acquire(cost).retry_after
    assert limiter.try_acquire(cost).allowed


def test_a_clock_that_steps_back_takes_nothing_away_for_good(clock: Any) -> None:
    limiter = RateLimiter(FIVE, clock=clock)
    limiter.try_acquire(5)
    clock.advance(-3600)
    assert not limiter.try_acquire().allowed
    clock.advance(3600 + 5)
    assert limiter.try_acquire(5).allowed


def waiting_limiter() -> RateLimiter:
    loop = asyncio.get_running_loop()
    return RateLimiter(FIVE, clock=loop.time)


def test_those_who_wait_pass_in_the_order_they_came(in_virtual_time: Any) -> None:
    async def scenario() -> None:
        limiter, passed = waiting_limiter(), list[tuple[str, float]]()

        async def visit(name: str, cost: int) -> None:
            await limiter.acquire(cost)
            passed.append((name, round(asyncio.get_running_loop().time(), 6)))

        limiter.try_acquire(5)
        await asyncio.gather(visit("big", 4), visit("small", 1), visit("last", 1))
        assert passed == [("big", 4), ("small", 5), ("last", 6)]

    in_virtual_time(scenario())


def test_a_wait_that_would_be_too_long_is_refused_at_once(in_virtual_time: Any) -> None:
    async def scenario() -> None:
        limiter = waiting_limiter()
        limiter.try_acquire(5)
        first = asyncio.create_task(limiter.acquire(3))
        await asyncio.sleep(0)
        with pytest.raises(RateLimitedError) as caught:
            await limiter.acquire(timeout=3.5)
        assert caught.value.retry_after == pytest.approx(4)
        with deadline(2, clock=asyncio.get_running_loop().time), pytest.raises(RateLimitedError):
            await limiter.acquire()
        assert asyncio.get_running_loop().time() == 0
        await first

    in_virtual_time(scenario())


def test_a_unit_taken_by_another_while_waiting_ends_the_wait_in_time(in_virtual_time: Any) -> None:
    async def scenario() -> None:
        limiter = waiting_limiter()
        limiter.try_acquire(5)
        waiting = asyncio.create_task(limiter.acquire(timeout=1.5))
        await asyncio.sleep(0.5)
        limiter._arrival += int(2e9)  # another thread was faster, twice
        with pytest.raises(RateLimitedError):
            await waiting

    in_virtual_time(scenario())


def test_a_cancelled_waiter_leaves_its_turn_to_the_next(in_virtual_time: Any) -> None:
    async def scenario() -> None:
        limiter = waiting_limiter()
        limiter.try_acquire(5)
        first = asyncio.create_task(limiter.acquire(4))
        second = asyncio.create_task(limiter.acquire())
        await asyncio.sleep(0.5)
        first.cancel()
        await second
        assert asyncio.get_running_loop().time() == pytest.approx(1)
        await limiter.acquire(timeout=1.01)  # nothing of the cancelled one is left in the line

    in_virtual_time(scenario())


async def test_one_limiter_serves_several_loops(clock: Any) -> None:
    limiter = RateLimiter(FIVE, clock=clock)
    await limiter.acquire()
    await asyncio.to_thread(lambda: asyncio.run(limiter.acquire()))
    assert limiter.try_acquire(0).remaining == 3


async def test_as_a_policy_it_refuses_without_calling(clock: Any) -> None:
    limiter = RateLimiter(LimitConfig(rate=1), name="orders", clock=clock)
    calls: deque[str] = deque()

    @limiter
    def plain() -> None:
        calls.append("plain")

    @limiter
    async def coroutine() -> None:
        calls.append("async")

    plain()
    with pytest.raises(
        RateLimitedError, match=r"'orders' \(1 per 1 s\) is exhausted: .* in 1\.000 s"
    ):
        plain()
    clock.advance(1)
    await coroutine()
    with pytest.raises(RateLimitedError) as caught:
        await coroutine()
    assert list(calls) == ["plain", "async"]
    assert (caught.value.policy, caught.value.name) == ("rate_limiter", "orders")


async def test_a_coroutine_function_given_to_run_is_refused(clock: Any) -> None:
    limiter = RateLimiter(FIVE, clock=clock)
    with pytest.raises(TypeError, match="use arun"):
        limiter.run(asyncio.sleep, 0)  # type: ignore[unused-coroutine]


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"rate": 0}, "rate"),
        ({"rate": 1, "per_seconds": 0}, "per_seconds"),
        ({"rate": 1, "per_seconds": float("inf")}, "per_seconds"),
        ({"rate": 1, "burst": 0}, "burst"),
        ({"rate": 1, "bust": 2}, "bust"),
    ],
)
def test_a_setting_outside_its_range_is_named(settings: dict[str, Any], field: str) -> None:
    with pytest.raises(ValueError, match=field):
        LimitConfig(**settings)


async def test_a_cost_that_makes_no_sense_is_refused(clock: Any) -> None:
    limiter = RateLimiter(FIVE, clock=clock)
    with pytest.raises(InvalidValueError, match="cost must be at least 0, not -1"):
        limiter.try_acquire(-1)
    with pytest.raises(InvalidValueError, match="cost must be at most the burst, 5, not 6"):
        await limiter.acquire(6)
    assert repr(limiter) == "RateLimiter('rate limit', 5 per 5 s)"


async def test_in_one_loop_it_needs_no_lock_and_decides_the_same(clock: Any) -> None:
    config = LimitConfig(rate=2)
    for limiter in (
        RateLimiter(config, clock=clock),
        RateLimiter(config, clock=clock, thread_safe=False),
    ):
        assert limiter.run(str, 1) == "1"
        assert await limiter.arun(asyncio.sleep, 0, 2) == 2
        with pytest.raises(RateLimitedError) as caught:
            await limiter(asyncio.sleep)(0)
        assert caught.value.retry_after == 0.5
        assert tuple(limiter.try_acquire()) == (False, 0, 0.5, 1.0)


def test_another_limit_holds_at_once_and_what_passed_still_counts(clock: Any) -> None:
    limiter = RateLimiter(LimitConfig(rate=10), clock=clock)
    limiter.try_acquire(10)
    limiter.reconfigure(LimitConfig(rate=2))
    assert limiter.try_acquire().retry_after == pytest.approx(0.5)
    snapshot = limiter.snapshot()
    assert (snapshot["rate"], snapshot["remaining"]) == (2, 0)


HOURLY, QUICK = LimitConfig(rate=10, per_seconds=3600), LimitConfig(rate=100)


def test_a_raised_limit_lets_calls_pass_at_once(clock: Any) -> None:
    limiter = RateLimiter(HOURLY, clock=clock)
    limiter.try_acquire(10)
    limiter.reconfigure(QUICK)
    assert limiter.try_acquire().remaining == 89


@given(
    old=st.builds(LimitConfig, rate=st.integers(1, 100), per_seconds=st.floats(0.1, 3600)),
    new=st.builds(LimitConfig, rate=st.integers(1, 100), per_seconds=st.floats(0.1, 3600)),
    cost=st.integers(0, 100),
)
def test_after_a_change_one_burst_of_the_new_limit_is_the_longest_wait(
    old: LimitConfig, new: LimitConfig, cost: int
) -> None:
    now = 50.0
    limiter = RateLimiter(old, clock=lambda: now)
    limiter.try_acquire(min(cost, old.rate))
    limiter.reconfigure(new)
    decision = limiter.try_acquire(0)
    assert decision.remaining == pytest.approx(max(0, new.rate - min(cost, old.rate)), abs=1)
    assert decision.reset_after <= new.capacity * new.per_seconds / new.rate * (1 + 1e-6)


@pytest.mark.parametrize(("first", "second", "passed_at"), [(60, 1, 2.475), (1, 60, 30.5)])
def test_a_waiting_caller_hears_of_another_limit(
    in_virtual_time: Any, first: float, second: float, passed_at: float
) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        limiter = RateLimiter(LimitConfig(rate=1, per_seconds=first), clock=loop.time)
        limiter.try_acquire()
        waiting = asyncio.create_task(limiter.acquire())
        await asyncio.sleep(0.5 * min(first, 3))
        limiter.reconfigure(LimitConfig(rate=1, per_seconds=second))
        await waiting
        assert loop.time() == pytest.approx(passed_at)

    in_virtual_time(scenario())


def test_a_wait_for_more_than_the_new_burst_is_refused_at_once(in_virtual_time: Any) -> None:
    async def scenario() -> None:
        limiter = waiting_limiter()
        limiter.try_acquire(5)
        waiting = asyncio.create_task(limiter.acquire(4))
        await asyncio.sleep(0.5)
        limiter.reconfigure(LimitConfig(rate=3))
        with pytest.raises(RateLimitedError, match="request fewer units"):
            await waiting
        assert asyncio.get_running_loop().time() == 0.5

    in_virtual_time(scenario())


def test_an_error_of_the_sleep_comes_out(in_virtual_time: Any) -> None:
    async def broken(_: float) -> None:
        raise OSError("no timer")

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        limiter = RateLimiter(FIVE, clock=loop.time, sleep=broken)
        limiter.try_acquire(5)
        with pytest.raises(OSError, match="no timer"):
            await limiter.acquire()

    in_virtual_time(scenario())


@pytest.mark.parametrize("cost", [0.5, "1", None])
async def test_a_cost_that_is_no_whole_number_is_refused(clock: Any, cost: Any) -> None:
    limiter = RateLimiter(FIVE, clock=clock)
    with pytest.raises(InvalidValueError, match="cost must be a whole number"):
        limiter.try_acquire(cost)
    with pytest.raises(InvalidValueError, match="cost must be a whole number"):
        await limiter.acquire(cost)
