import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from pydantic import ValidationError

from microservice_core import InvalidValueError
from microservice_governance import (
    Bulkhead,
    BulkheadConfig,
    BulkheadFullError,
    CallRejected,
    PolicyEvent,
    deadline,
)

Runner = Callable[[Coroutine[Any, Any, Any]], Any]


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


class Gate:
    """A call that stays inside until it is let out."""

    def __init__(self) -> None:
        self.inside = 0
        self.most = 0
        self.order: list[int] = []
        self.open = asyncio.Event()

    async def __call__(self, number: int = 0) -> int:
        self.order.append(number)
        self.inside += 1
        self.most = max(self.most, self.inside)
        try:
            await self.open.wait()
        finally:
            self.inside -= 1
        return number


async def test_more_than_the_limit_never_run_and_the_rest_wait_in_order() -> None:
    bulkhead, gate = Bulkhead(2, queue=3), Gate()
    guarded = bulkhead(gate)
    tasks = [asyncio.create_task(guarded(number)) for number in range(6)]
    await settle()
    assert (gate.inside, bulkhead.in_flight, bulkhead.waiting) == (2, 2, 3)
    assert bulkhead.load == 2.5
    gate.open.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert results[:5] == [0, 1, 2, 3, 4]
    assert isinstance(results[5], BulkheadFullError)
    assert (gate.most, gate.order) == (2, [0, 1, 2, 3, 4])
    assert (bulkhead.in_flight, bulkhead.waiting) == (0, 0)


async def test_a_newcomer_does_not_overtake_who_waits() -> None:
    bulkhead, gate = Bulkhead(1, queue=5), Gate()
    first = asyncio.create_task(bulkhead.arun(gate, 1))
    await settle()
    second = asyncio.create_task(bulkhead.arun(gate, 2))
    await settle()
    gate.open.set()
    await first
    await bulkhead.arun(gate, 3)  # asked right after the place came free
    await second
    assert gate.order == [1, 2, 3]


async def test_a_full_one_without_a_queue_refuses_at_once() -> None:
    bulkhead = Bulkhead(1, name="orders")
    events: list[PolicyEvent] = []
    bulkhead.subscribe(events.append)
    async with bulkhead:
        with pytest.raises(BulkheadFullError, match="'orders' is full: 1 calls") as caught:
            async with bulkhead:
                pytest.fail("it was let in")
        with pytest.raises(BulkheadFullError):
            bulkhead.run(pytest.fail)
    assert (caught.value.limit, caught.value.policy) == (1, "bulkhead")
    assert events == [CallRejected("bulkhead", "orders", None)] * 2
    assert bulkhead.in_flight == 0


@pytest.mark.parametrize("error", [OSError("down"), asyncio.CancelledError()])
async def test_the_place_is_free_again_however_the_call_ends(error: BaseException) -> None:
    bulkhead = Bulkhead(1)

    async def fails() -> None:
        raise error

    with pytest.raises(type(error)):
        await bulkhead.arun(fails)
    with pytest.raises(type(error)):
        await bulkhead(fails)()
    assert bulkhead.in_flight == 0


async def test_who_is_cancelled_in_line_leaves_it() -> None:
    bulkhead, gate = Bulkhead(1, queue=2), Gate()
    tasks = [asyncio.create_task(bulkhead.arun(gate, number)) for number in range(3)]
    await settle()
    tasks[1].cancel()
    await settle()
    assert (tasks[1].cancelled(), bulkhead.waiting) == (True, 1)
    gate.open.set()
    assert await tasks[2] == 2
    assert bulkhead.in_flight == 0


async def test_a_place_handed_to_one_who_is_cancelled_in_that_moment_is_passed_on() -> None:
    bulkhead, gate = Bulkhead(1, queue=2), Gate()
    gate.open.set()
    await bulkhead.__aenter__()
    tasks = [asyncio.create_task(bulkhead.arun(gate, number)) for number in range(2)]
    await settle()
    await bulkhead.__aexit__(None, None, None)  # hands the place to the first in line
    tasks[0].cancel()
    assert await tasks[1] == 1
    with pytest.raises(asyncio.CancelledError):
        await tasks[0]
    assert (bulkhead.in_flight, bulkhead.waiting) == (0, 0)


def test_nobody_waits_longer_than_allowed(in_virtual_time: Runner) -> None:
    def now() -> float:
        return asyncio.get_running_loop().time()

    async def main() -> None:
        bulkhead = Bulkhead(1, queue=5, max_wait_seconds=3, clock=now)
        async with bulkhead:
            with pytest.raises(BulkheadFullError, match="within 3 s"):
                await bulkhead.arun(asyncio.sleep, 0)
            assert now() == 3
            with deadline(1, clock=now), pytest.raises(BulkheadFullError, match="within 1 s"):
                await bulkhead.arun(asyncio.sleep, 0)
            assert (now(), bulkhead.waiting) == (4, 0)

    in_virtual_time(main())


def test_threads_wait_for_each_other_and_never_are_too_many() -> None:
    bulkhead = Bulkhead(3, queue=40)
    lock = threading.Lock()
    inside = most = done = 0

    @bulkhead
    def visit() -> None:
        nonlocal inside, most, done
        with lock:
            inside += 1
            most = max(most, inside)
        with lock:
            inside -= 1
            done += 1

    def visits() -> None:
        for _ in range(50):
            visit()

    threads = [threading.Thread(target=visits) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (done, bulkhead.in_flight, bulkhead.waiting) == (600, 0, 0)
    assert most <= 3


def test_a_thread_and_a_task_share_one_line() -> None:
    bulkhead = Bulkhead(1, queue=2)
    inside, may_leave = threading.Event(), threading.Event()

    def hold() -> None:
        inside.set()
        may_leave.wait(10)

    async def main() -> str:
        task = asyncio.create_task(bulkhead.arun(asyncio.sleep, 0, "in"))
        await settle()
        assert bulkhead.waiting == 1
        may_leave.set()
        return await task

    thread = threading.Thread(target=bulkhead.run, args=(hold,))
    thread.start()
    inside.wait(10)
    assert asyncio.run(main()) == "in"
    thread.join()
    assert bulkhead.in_flight == 0


def test_a_thread_gives_up_when_its_time_is_over() -> None:
    bulkhead = Bulkhead(1, queue=2, max_wait_seconds=0.01)
    with bulkhead, pytest.raises(BulkheadFullError, match="within"):
        bulkhead.run(pytest.fail)
    assert (bulkhead.in_flight, bulkhead.waiting) == (0, 0)


def test_who_waited_on_a_loop_that_is_gone_gets_no_place() -> None:
    bulkhead = Bulkhead(1, queue=2)
    with bulkhead:
        loop = asyncio.new_event_loop()
        lost = loop.create_task(bulkhead.arun(asyncio.sleep, 0))
        loop.run_until_complete(settle())
        loop.close()
        assert (bulkhead.waiting, lost.done()) == (1, False)
    assert (bulkhead.in_flight, bulkhead.waiting) == (0, 0)
    lost._log_destroy_pending = False  # type: ignore[attr-defined]


async def test_a_smaller_limit_holds_once_enough_calls_have_ended() -> None:
    bulkhead, gate = Bulkhead(3, queue=5), Gate()
    tasks = [asyncio.create_task(bulkhead.arun(gate, number)) for number in range(3)]
    await settle()
    bulkhead.reconfigure(BulkheadConfig(limit=1, queue=2, max_wait_seconds=9))
    assert (bulkhead.in_flight, bulkhead.limit, bulkhead.queue) == (3, 1, 2)
    more = [asyncio.create_task(bulkhead(gate)(number)) for number in (3, 4)]
    await settle()
    assert gate.inside == 3
    tasks[0].cancel()
    tasks[1].cancel()
    await settle()
    assert (gate.inside, bulkhead.in_flight, bulkhead.waiting) == (1, 1, 2)
    gate.open.set()
    await asyncio.gather(*more)
    assert bulkhead.in_flight == 0
    assert bulkhead.snapshot()["limit"] == 1


async def test_a_larger_limit_lets_in_who_waits() -> None:
    bulkhead, gate = Bulkhead(1, queue=5), Gate()
    tasks = [asyncio.create_task(bulkhead.arun(gate, number)) for number in range(4)]
    await settle()
    bulkhead.reconfigure(BulkheadConfig(limit=3, queue=5))
    await settle()
    assert (gate.inside, bulkhead.in_flight, bulkhead.waiting) == (3, 3, 1)
    bulkhead.reconfigure(BulkheadConfig(limit=1))
    bulkhead.reconfigure(BulkheadConfig(limit=4))
    await settle()
    assert (gate.inside, bulkhead.in_flight) == (4, 4)
    gate.open.set()
    await asyncio.gather(*tasks)
    assert (bulkhead.in_flight, gate.most) == (0, 4)


def test_a_coroutine_function_is_refused_by_run() -> None:
    bulkhead = Bulkhead(1)
    with pytest.raises(TypeError, match="arun"):
        bulkhead.run(asyncio.sleep, 1)  # type: ignore[unused-coroutine]
    assert bulkhead.in_flight == 0


@pytest.mark.parametrize(
    ("field", "arguments"),
    [
        ("limit", {"limit": 0}),
        ("limit", {"limit": 100_001}),
        ("queue", {"limit": 1, "queue": -1}),
        ("max_wait_seconds", {"limit": 1, "max_wait_seconds": 0.0}),
    ],
)
def test_a_number_out_of_range_is_refused(field: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(InvalidValueError, match=f"^{field} must be"):
        Bulkhead(**arguments)
    with pytest.raises(ValidationError, match=field):
        BulkheadConfig(**arguments)
