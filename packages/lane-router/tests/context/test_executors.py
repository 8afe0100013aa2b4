"""Lanes across threads, pools, queues and generators: the holes of contextvars, by name."""

import asyncio
import multiprocessing
import pickle
import queue
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import pytest

from lane_router import (
    LaneItem,
    LaneThread,
    LaneThreadPoolExecutor,
    carry_lane,
    current_lane,
    lane_generator,
    lane_scope,
    patch_executors,
    unpatch_executors,
)


def lane_in_thread(
    kind: type[threading.Thread] = threading.Thread, *, carry: bool = False
) -> object:
    lanes: list[str | None] = []

    def record_lane() -> None:
        lanes.append(current_lane())

    thread = kind(target=carry_lane(record_lane) if carry else record_lane)
    thread.start()
    thread.join()
    return lanes[0]


def test_trap_1_a_pool_of_ours_runs_work_in_the_lane_of_its_submission_and_keeps_nothing() -> None:
    with LaneThreadPoolExecutor(1) as pool:
        with lane_scope("dev"):
            first = pool.submit(current_lane)
        second = pool.submit(current_lane)
        with lane_scope("test"):
            third = list(pool.map(lambda _: current_lane(), range(2)))
        plain = ThreadPoolExecutor.submit(pool, current_lane)
    assert (first.result(), second.result(), third) == ("dev", None, ["test", "test"])
    assert plain.result() is None


async def test_trap_1_run_in_executor_with_the_global_patch() -> None:
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(1) as pool, lane_scope("dev"):
        assert await loop.run_in_executor(pool, current_lane) is None
        patch_executors()
        try:
            patch_executors()
            assert await loop.run_in_executor(pool, current_lane) == "dev"
            with lane_scope(None):
                assert await loop.run_in_executor(pool, current_lane) is None
        finally:
            unpatch_executors()
        assert await loop.run_in_executor(pool, current_lane) is None


def test_trap_1_a_thread_starts_in_no_lane_unless_it_is_a_lane_thread() -> None:
    with lane_scope("dev"):
        assert lane_in_thread() is None
        assert lane_in_thread(LaneThread) == "dev"
        assert lane_in_thread(carry=True) == "dev"


async def test_trap_1_call_soon_threadsafe_from_a_plain_thread() -> None:
    loop, done = asyncio.get_running_loop(), asyncio.Event()
    lanes: list[str | None] = []

    def record_lane_soon() -> None:
        lanes.append(current_lane())
        done.set()

    with lane_scope("dev"):
        function = carry_lane(record_lane_soon)
    await asyncio.to_thread(loop.call_soon_threadsafe, function)
    await done.wait()
    assert lanes == ["dev"]


def test_trap_1_a_long_lived_queue_worker_runs_each_item_in_the_items_own_lane() -> None:
    waiting: queue.Queue[LaneItem[str] | None] = queue.Queue()
    lanes: list[tuple[str, str | None]] = []

    def work() -> None:
        while (item := waiting.get()) is not None:
            with item as value:
                lanes.append((value, current_lane()))
        lanes.append(("end", current_lane()))

    with lane_scope("worker"):
        worker = LaneThread(target=work)
        worker.start()
    for lane in ("dev", None):
        with lane_scope(lane):
            waiting.put(LaneItem(str(lane)))
    waiting.put(None)
    worker.join()
    assert lanes == [("dev", "dev"), ("None", None), ("end", "worker")]


def test_an_item_can_be_pickled_and_compared() -> None:
    with lane_scope("dev"):
        item = LaneItem(7)
    assert pickle.loads(pickle.dumps(item)) == item == LaneItem(7, "dev")  # noqa: S301


def test_a_carried_function_reaches_another_process() -> None:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        with lane_scope("dev"):
            function = carry_lane(current_lane)
        assert pool.submit(function).result(50) == "dev"
        assert pool.submit(current_lane).result(50) is None


def test_an_error_passes_through_a_carried_function_and_the_lane_is_restored() -> None:
    def fail() -> None:
        raise RuntimeError(str(current_lane()))

    with lane_scope("dev"):
        function = carry_lane(fail)
    with lane_scope("outer"):
        with pytest.raises(RuntimeError, match="dev"):
            function()
        assert current_lane() == "outer"


def test_trap_1_a_scope_inside_a_generator_is_not_seen_by_its_caller() -> None:
    @lane_generator
    def steps() -> Iterator[str | None]:
        yield current_lane()
        with lane_scope("inner"):
            yield current_lane()
            yield current_lane()
        yield current_lane()

    with lane_scope("call"):
        running = steps()
    with lane_scope("iteration"):
        lanes = []
        for lane in running:
            lanes.append(lane)
            assert current_lane() == "iteration"
    assert lanes == ["call", "inner", "inner", "call"]


async def test_trap_1_nor_one_inside_an_async_generator() -> None:
    @lane_generator
    async def steps() -> AsyncIterator[str | None]:
        with lane_scope("inner"):
            yield current_lane()
            await asyncio.sleep(0)
            yield current_lane()

    lanes = []
    async for lane in steps():
        lanes.append(lane)
        assert current_lane() is None
    assert lanes == ["inner", "inner"]


def test_a_generator_stopped_early_is_closed_in_its_lane() -> None:
    ended: list[str | None] = []

    @lane_generator
    def steps() -> Iterator[int]:
        try:
            yield 1
        finally:
            ended.append(current_lane())

    with lane_scope("dev"):
        running = steps()
    next(running)
    running.close()  # type: ignore[attr-defined]
    assert ended == ["dev"]


async def test_an_async_generator_stopped_early_is_closed_in_its_lane() -> None:
    ended: list[str | None] = []

    @lane_generator
    async def steps() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            ended.append(current_lane())

    with lane_scope("dev"):
        running = steps()
    await anext(running)
    await running.aclose()  # type: ignore[attr-defined]
    assert ended == ["dev"]


def test_only_generator_functions_can_be_decorated() -> None:
    with pytest.raises(TypeError, match="is not a generator function"):
        lane_generator(current_lane)


async def test_a_scope_that_ends_in_another_context_undoes_nothing_there() -> None:
    async def steps() -> AsyncIterator[None]:
        with lane_scope("dev"):
            yield

    running = steps()
    await asyncio.create_task(anext(running))  # type: ignore[arg-type]
    with lane_scope("mine"):
        await running.aclose()  # type: ignore[attr-defined]
        assert current_lane() == "mine"


def test_an_iterator_that_is_no_generator_can_be_closed_as_well() -> None:
    from lane_router.context.generators import confine_lane

    steps = confine_lane([1, 2])
    assert next(steps) == 1
    steps.close()  # type: ignore[attr-defined]
