import asyncio
import pickle
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from microservice_core import InvalidValueError
from microservice_governance import (
    CallTimedOut,
    DeadlineExceededError,
    PolicyEvent,
    Timeout,
    TimeoutExceededError,
    deadline,
)

Runner = Callable[[Coroutine[Any, Any, Any]], Any]


def now() -> float:
    return asyncio.get_running_loop().time()


def timeout(seconds: float) -> Timeout:
    return Timeout(seconds, name="orders", clock=now)


def test_what_takes_too_long_is_cancelled_in_time(in_virtual_time: Runner) -> None:
    cancelled = []

    async def forever() -> None:
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            cancelled.append(now())
            raise

    async def main() -> None:
        with pytest.raises(TimeoutExceededError, match=r"'orders' .* after 2\.000 s") as caught:
            await timeout(2).arun(forever)
        assert (caught.value.seconds, caught.value.name) == (2, "orders")

    in_virtual_time(main())
    assert cancelled == [2]


def test_what_is_in_time_is_returned(in_virtual_time: Runner) -> None:
    @Timeout(2, clock=now)
    async def answer(value: int) -> int:
        await asyncio.sleep(1.9)
        return value

    assert in_virtual_time(answer(7)) == 7


def test_a_timeout_error_of_the_call_itself_stays_what_it_is(in_virtual_time: Runner) -> None:
    async def fails() -> None:
        raise TimeoutError("of its own")

    async def main() -> None:
        with pytest.raises(TimeoutError, match="of its own") as caught:
            await timeout(2).arun(fails)
        assert not isinstance(caught.value, TimeoutExceededError)

    in_virtual_time(main())


def test_cancelled_from_outside_it_stays_cancelled(in_virtual_time: Runner) -> None:
    async def main() -> None:
        task = asyncio.create_task(timeout(50).arun(asyncio.sleep, 100))
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()

    in_virtual_time(main())


def test_everything_inside_knows_the_deadline(in_virtual_time: Runner) -> None:
    async def inside() -> float | None:
        await asyncio.sleep(0.5)
        return deadline.remaining(now)

    async def main() -> None:
        assert await timeout(2).arun(inside) == 1.5
        assert deadline.current() is None

    in_virtual_time(main())


def timers() -> int:
    """Timers the loop holds that were not cancelled."""
    scheduled = asyncio.get_running_loop()._scheduled  # type: ignore[attr-defined]
    return sum(not handle.cancelled() for handle in scheduled)


def test_no_timer_is_armed_where_an_outer_one_ends_earlier(in_virtual_time: Runner) -> None:
    async def count() -> int:
        return timers()

    async def main() -> None:
        assert await timeout(2).arun(timeout(5).arun, count) == 1
        assert await timeout(5).arun(timeout(2).arun, count) == 2
        with pytest.raises(TimeoutExceededError) as caught:
            await timeout(2).arun(timeout(5).arun, asyncio.sleep, 100)
        assert (caught.value.seconds, now()) == (2, 2)

    in_virtual_time(main())


def test_a_bare_deadline_is_enforced_by_the_timeout_inside(in_virtual_time: Runner) -> None:
    async def main() -> None:
        with deadline(1, clock=now), pytest.raises(TimeoutExceededError) as caught:
            await timeout(5).arun(asyncio.sleep, 100)
        assert (caught.value.seconds, now()) == (1, 1)

    in_virtual_time(main())


def test_a_task_of_its_own_gets_a_timer_of_its_own(in_virtual_time: Runner) -> None:
    """The outer timer cancels another task, so it would not end this one."""
    background: list[asyncio.Task[None]] = []

    async def spawn() -> None:
        background.append(asyncio.create_task(timeout(5).arun(asyncio.sleep, 100)))
        await asyncio.sleep(0.1)

    async def main() -> None:
        await timeout(2).arun(spawn)
        with pytest.raises(TimeoutExceededError):
            await background[0]
        assert now() == 2

    in_virtual_time(main())


def test_nothing_is_called_when_the_deadline_has_passed(in_virtual_time: Runner) -> None:
    called = []

    async def call() -> None:
        called.append(1)

    async def main() -> None:
        with deadline(1, clock=now):
            await asyncio.sleep(1)
            with pytest.raises(DeadlineExceededError):
                await timeout(5).arun(call)
            with pytest.raises(DeadlineExceededError):
                timeout(5).run(called.append, 1)

    in_virtual_time(main())
    assert not called


def test_a_plain_function_runs_under_the_deadline_and_keeps_its_result(clock: Any) -> None:
    @Timeout(2, clock=clock)
    def slow() -> float | None:
        left = deadline.remaining(clock)
        clock.advance(5)
        return left

    assert slow() == 2


def test_a_coroutine_function_is_refused_by_run() -> None:
    with pytest.raises(TypeError, match="arun"):
        Timeout(2).run(asyncio.sleep, 1)  # type: ignore[unused-coroutine]


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), 86_401])
def test_a_limit_out_of_range_is_refused(seconds: float) -> None:
    with pytest.raises(InvalidValueError, match="seconds must be"):
        Timeout(seconds)
    kept = Timeout(2)
    with pytest.raises(InvalidValueError):
        kept.reconfigure(seconds)
    assert kept.snapshot()["seconds"] == 2


def test_it_is_reconfigured_and_tells_of_timeouts(in_virtual_time: Runner) -> None:
    events: list[PolicyEvent] = []

    async def main() -> None:
        limit = timeout(5)
        limit.reconfigure(3)
        limit.subscribe(events.append)
        with pytest.raises(TimeoutExceededError):
            await limit.arun(asyncio.sleep, 100)
        assert repr(limit) == "Timeout(3, name='orders')"

    in_virtual_time(main())
    assert events == [CallTimedOut("timeout", "orders", 3)]


def test_the_error_can_be_pickled() -> None:
    again = pickle.loads(pickle.dumps(TimeoutExceededError("orders", 2.0)))  # noqa: S301
    assert (again.name, again.seconds, "orders" in str(again)) == ("orders", 2, True)
