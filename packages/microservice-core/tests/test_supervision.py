import asyncio
import logging
from collections.abc import Callable, Coroutine

import pytest

from microservice_core import TaskSupervisor, cancel_all_tasks
from microservice_core.testing import ManualClock

Work = Callable[[], Coroutine[object, object, None]]


def supervisor(clock: ManualClock, *, listener: Callable[[], None] | None = None) -> TaskSupervisor:
    return TaskSupervisor(
        "the registry",
        initial_seconds=1,
        max_seconds=8,
        close_seconds=0.01,
        listener=listener,
        clock=clock,
        sleep=clock.sleep,
        random=lambda: 1.0,
    )


async def settle() -> None:
    await ManualClock().run(0)


class Flaky:
    """Fails as often as asked, then runs until cancelled."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.runs = 0

    async def __call__(self) -> None:
        self.runs += 1
        if self.runs <= self.failures:
            raise ValueError("the secret of the day")
        await asyncio.Event().wait()


async def test_a_task_that_fails_is_logged_and_restarted_after_growing_pauses(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock, work = ManualClock(), Flaky(3)
    async with supervisor(clock) as tasks:
        tasks.start("follow", work)
        await settle()
        assert (work.runs, dict(tasks.down)) == (1, {"follow": "ValueError"})
        for pause, runs in ((1, 2), (2, 3), (4, 4)):
            await clock.run(pause - 0.1)
            assert work.runs == runs - 1
            await clock.run(0.1)
            assert work.runs == runs
        assert not tasks.down
        assert tasks.running == ("follow",)
    assert not tasks.running
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 3
    assert "the registry: task 'follow' failed; restarting it in 1.0 s" in errors[0].getMessage()
    assert errors[0].exc_info


async def test_a_long_run_starts_the_pauses_anew() -> None:
    clock = ManualClock()
    lengths = iter([0, 0, 9, 0])
    starts: list[float] = []

    async def work() -> None:
        starts.append(clock())
        await clock.sleep(next(lengths, 1_000_000))
        raise ValueError

    async with supervisor(clock) as tasks:
        tasks.start("follow", work)
        await clock.run(30)
    assert starts == [0, 1, 3, 13, 15]


async def test_a_task_that_returns_is_done() -> None:
    async def work() -> None:
        await asyncio.sleep(0)

    async with supervisor(ManualClock()) as tasks:
        tasks.start("once", work)
        await settle()
        assert not tasks.running
        tasks.start("once", work)
        assert list(tasks.running) == ["once"]


async def test_the_listener_hears_when_a_task_goes_down_and_when_it_runs_again() -> None:
    clock, heard = ManualClock(), list[dict[str, str]]()
    tasks = supervisor(clock, listener=lambda: heard.append(dict(tasks.down)))
    tasks.start("follow", Flaky(1))
    await clock.run(1)
    await tasks.aclose()
    assert heard == [{"follow": "ValueError"}, {}]


async def test_closing_while_a_task_waits_for_its_restart_forgets_that_it_is_down() -> None:
    clock = ManualClock()
    async with supervisor(clock) as tasks:
        tasks.start("follow", Flaky(1))
        await settle()
        assert tasks.down
    assert not tasks.down
    assert clock.sleepers == 0


async def test_stop_ends_one_task_only() -> None:
    async with supervisor(ManualClock()) as tasks:
        tasks.start("first", Flaky(0))
        tasks.start("second", Flaky(0))
        await settle()
        await tasks.stop("first")
        await tasks.stop("no such task")
        assert tasks.running == ("second",)


async def test_a_cancelled_task_frees_its_name_at_once_and_is_joined_by_closing() -> None:
    ends: list[str] = []
    release = asyncio.Event()

    async def slow_to_end() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await release.wait()
            ends.append("first")

    tasks = TaskSupervisor("the registry")
    tasks.start("follow", slow_to_end)
    await settle()
    tasks.cancel("follow")
    tasks.cancel("no such task")
    assert not tasks.running
    tasks.start("follow", Flaky(0))
    await settle()
    assert not ends
    release.set()
    await tasks.aclose()
    assert ends == ["first"]
    assert not tasks.running


async def test_cancelling_a_task_that_is_down_takes_it_off_the_list() -> None:
    async with supervisor(ManualClock()) as tasks:
        tasks.start("follow", Flaky(1))
        await settle()
        assert tasks.down
        tasks.cancel("follow")
        assert not tasks.down


async def test_a_name_is_taken_while_its_task_runs_and_nothing_starts_after_closing() -> None:
    tasks = supervisor(ManualClock())
    tasks.start("follow", Flaky(0))
    with pytest.raises(RuntimeError, match="already runs a task 'follow'; stop it first"):
        tasks.start("follow", Flaky(0))
    await tasks.aclose()
    await tasks.aclose()
    with pytest.raises(RuntimeError, match="the registry is closed"):
        tasks.start("follow", Flaky(0))


async def test_closing_is_bounded_when_a_task_swallows_its_cancellation(
    caplog: pytest.LogCaptureFixture,
) -> None:
    release = asyncio.Event()

    async def stubborn() -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    tasks = supervisor(ManualClock())
    tasks.start("stubborn", stubborn)
    await settle()
    await tasks.aclose()
    assert "task 'stubborn' does not end when cancelled" in caplog.text
    release.set()
    await settle()


def test_winding_up_cancels_tasks_that_never_ran_and_those_that_start_meanwhile() -> None:
    ends: list[str] = []

    async def inner() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ends.append("inner")

    async def outer() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ends.append("outer")
            started.append(asyncio.create_task(inner()))

    started: list[asyncio.Task[None]] = []
    loop = asyncio.new_event_loop()
    started.append(loop.create_task(outer()))
    loop.run_until_complete(cancel_all_tasks())
    loop.close()
    assert ends == ["outer", "inner"]
    assert all(task.cancelled() for task in started)
