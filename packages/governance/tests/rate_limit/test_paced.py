import asyncio
from typing import Any

import pytest

from microservice_core import InvalidValueError
from microservice_governance import LimitConfig, PacedLimiter, RateLimitedError, deadline, testing


def now() -> float:
    return round(asyncio.get_running_loop().time(), 6)


def test_calls_pass_at_an_even_pace_in_the_order_they_came(in_virtual_time: Any) -> None:
    async def scenario() -> None:
        limiter, passed = PacedLimiter(LimitConfig(rate=10)), list[tuple[int, float]]()

        async def visit(number: int) -> None:
            async with limiter:
                passed.append((number, now()))

        await asyncio.gather(*(visit(number) for number in range(4)))
        assert passed == [(0, 0.0), (1, 0.1), (2, 0.2), (3, 0.3)]

    in_virtual_time(scenario())


def test_a_burst_passes_without_a_pause(in_virtual_time: Any) -> None:
    async def scenario() -> None:
        limiter = PacedLimiter(LimitConfig(rate=10, burst=3))
        for _ in range(3):
            await limiter.acquire()
        assert now() == 0
        await limiter.acquire()
        assert now() == 0.1

    in_virtual_time(scenario())


def test_small_late_callers_do_not_overtake_a_large_one(in_virtual_time: Any) -> None:
    async def scenario() -> None:
        limiter, passed = PacedLimiter(LimitConfig(rate=10, burst=5)), list[int]()

        async def visit(cost: int) -> None:
            await limiter.acquire(cost)
            passed.append(cost)

        await limiter.acquire(5)
        await asyncio.gather(visit(5), *(visit(1) for _ in range(10)))
        assert passed[0] == 5

    in_virtual_time(scenario())


def test_a_turn_that_does_not_come_in_time_is_refused(in_virtual_time: Any) -> None:
    async def scenario() -> None:
        limiter = PacedLimiter(LimitConfig(rate=1), name="orders")
        await limiter.acquire()
        with pytest.raises(RateLimitedError, match="'orders' \\(1 per 1 s\\) is exhausted"):
            await limiter.acquire(timeout=0.5)
        assert now() == 0
        await limiter.acquire()
        assert now() == 1

    in_virtual_time(scenario())


async def test_the_deadline_in_force_counts() -> None:
    limiter = PacedLimiter(LimitConfig(rate=1, per_seconds=3600))
    await limiter.acquire()
    with deadline(0), pytest.raises(RateLimitedError):
        await limiter.acquire()


async def test_each_event_loop_paces_its_own_calls() -> None:
    limiter = PacedLimiter(LimitConfig(rate=1, per_seconds=3600))
    await limiter.acquire()
    await asyncio.to_thread(lambda: asyncio.run(limiter.acquire(timeout=1)))
    with pytest.raises(RateLimitedError):
        await limiter.acquire(timeout=1)


@pytest.mark.parametrize("cost", [0, 2, 0.5])
async def test_a_cost_that_can_never_pass_is_refused(cost: int) -> None:
    with pytest.raises(InvalidValueError, match="cost must be"):
        await PacedLimiter(LimitConfig(rate=1)).acquire(cost)


def test_a_wait_that_is_too_long_is_told_before_waiting(in_virtual_time: Any) -> None:
    async def scenario() -> None:
        limiter = PacedLimiter(LimitConfig(rate=1), name="orders")
        tasks = [asyncio.create_task(limiter.acquire()) for _ in range(4)]
        await asyncio.sleep(0.5)
        with pytest.raises(RateLimitedError) as caught:
            await limiter.acquire(timeout=3)
        assert caught.value.retry_after == pytest.approx(3.5)
        assert now() == 0.5
        with deadline(3, clock=now), pytest.raises(RateLimitedError):
            async with limiter:
                pytest.fail("it passed")
        await limiter.acquire(timeout=3.6)
        assert now() == 4
        await asyncio.gather(*tasks)
        assert limiter.snapshot()["burst"] == 1

    in_virtual_time(scenario())


@pytest.mark.parametrize(("first", "second"), [(60, 2), (2, 60)])
def test_another_pace_holds_for_those_who_wait(
    in_virtual_time: Any, first: float, second: float
) -> None:
    async def scenario() -> None:
        limiter = PacedLimiter(LimitConfig(rate=1, per_seconds=first))
        await limiter.acquire()
        waiting = [asyncio.create_task(limiter.acquire()) for _ in range(2)]
        await asyncio.sleep(first / 2)
        limiter.reconfigure(LimitConfig(rate=1, per_seconds=second))
        await waiting[0]
        assert now() == pytest.approx(first / 2 + second / 2)  # half of the first unit was left
        await waiting[1]
        assert now() == pytest.approx(first / 2 + second * 1.5)

    in_virtual_time(scenario())


def test_a_pace_whose_burst_is_too_small_refuses_those_who_wait(in_virtual_time: Any) -> None:
    async def scenario() -> None:
        limiter = PacedLimiter(LimitConfig(rate=1, burst=3))
        await limiter.acquire(3)
        waiting = asyncio.create_task(limiter.acquire(3))
        await asyncio.sleep(0.5)
        limiter.reconfigure(LimitConfig(rate=1, burst=2))
        with pytest.raises(RateLimitedError, match="request fewer units"):
            await waiting
        assert now() == 0.5
        await limiter.acquire(1)

    in_virtual_time(scenario())


async def test_a_pace_changed_from_another_loop_holds_in_each() -> None:
    limiter = PacedLimiter(LimitConfig(rate=1, per_seconds=3600))
    await asyncio.to_thread(lambda: asyncio.run(limiter.acquire()))  # its loop is closed by now
    await limiter.acquire()
    limiter.reconfigure(LimitConfig(rate=1000))
    await asyncio.sleep(0)
    await limiter.acquire(timeout=5)
    assert limiter.snapshot()["rate"] == 1000


async def test_in_a_testing_block_nobody_waits() -> None:
    limiter = PacedLimiter(LimitConfig(rate=1, per_seconds=3600))
    with testing():
        for _ in range(3):
            await limiter.acquire()
