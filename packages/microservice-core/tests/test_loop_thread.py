import asyncio
import gc
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Coroutine
from concurrent.futures import CancelledError

import pytest

from microservice_core import LoopThread, LoopThreadError


async def where() -> tuple[str, int]:
    return threading.current_thread().name, id(asyncio.get_running_loop())


def test_coroutines_run_on_one_private_loop() -> None:
    with LoopThread(name="mine") as loop:
        first, second = loop.run(where()), loop.run(where())
    assert first == second
    assert first[0] == "mine"


def test_an_error_comes_out_as_it_is() -> None:
    async def fail() -> None:
        raise ZeroDivisionError("on purpose")

    with LoopThread() as loop, pytest.raises(ZeroDivisionError, match="on purpose"):
        loop.run(fail())


def test_a_result_not_in_time_cancels_the_coroutine() -> None:
    cancelled = threading.Event()

    async def hang() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    with LoopThread() as loop:
        with pytest.raises(TimeoutError):
            loop.run(hang(), within_seconds=0.01)
        assert cancelled.wait(5)


def test_closing_cancels_what_still_runs_and_joins() -> None:
    ended: list[bool] = []

    async def background() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    async def start() -> None:
        tasks.append(asyncio.create_task(background()))
        await asyncio.sleep(0)

    tasks: list[asyncio.Task[None]] = []
    loop = LoopThread(name="joined")
    loop.start()
    loop.start()
    loop.run(start())
    loop.close()
    loop.close()
    assert ended == [True]
    assert "joined" not in [thread.name for thread in threading.enumerate()]


def test_a_closed_loop_says_so() -> None:
    loop = LoopThread()
    with pytest.raises(LoopThreadError, match="not open"):
        loop.run(where())


def test_waiting_for_itself_is_refused() -> None:
    with LoopThread() as loop:

        async def inner() -> object:
            return loop.run(where())

        with pytest.raises(LoopThreadError, match="its own loop"):
            loop.run(inner())


def test_a_call_that_a_close_cuts_off_says_so() -> None:
    begun = threading.Event()

    async def hang() -> None:
        begun.set()
        await asyncio.Event().wait()

    def close() -> None:
        assert begun.wait(10)
        loop.close()

    loop = LoopThread()
    loop.start()
    closer = threading.Thread(target=close)
    closer.start()
    with pytest.raises(LoopThreadError, match="closed during a call"):
        loop.run(hang())
    closer.join(10)


def test_a_coroutine_that_cancels_itself_is_no_closed_loop() -> None:
    async def give_up() -> None:
        raise asyncio.CancelledError

    with LoopThread() as loop, pytest.raises(CancelledError):
        loop.run(give_up())


def test_calls_while_another_thread_closes_always_end() -> None:
    async def nothing() -> None:
        """Done at once."""

    def call() -> None:
        with pytest.raises(LoopThreadError):  # noqa: PT012 - only one of many is refused
            while True:
                loop.run(nothing())
                called.set()

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(300):
            loop, called = LoopThread(), threading.Event()
            loop.start()
            caller = threading.Thread(target=call, daemon=True)
            caller.start()
            assert called.wait(10)
            loop.close()
            caller.join(10)
            assert not caller.is_alive()
    finally:
        sys.setswitchinterval(before)


def test_what_has_not_begun_when_it_closes_begins_before_it_is_cancelled() -> None:
    """One cancelled earlier drops what it was given to wait for, and Python warns of that."""

    async def nothing() -> None:
        await asyncio.sleep(0)

    async def waiting_for(inner: Coroutine[None, None, None]) -> None:
        await inner

    async def starting() -> None:
        while True:
            await asyncio.wait([asyncio.create_task(waiting_for(nothing()))])

    async def start() -> None:
        for _ in range(4):
            tasks.append(asyncio.create_task(starting()))
            await asyncio.sleep(0)

    for _ in range(20):
        tasks: list[asyncio.Task[None]] = []
        with LoopThread() as loop:
            loop.run(start())
        assert all(task.done() for task in tasks)
    gc.collect()


def test_a_generator_that_is_being_closed_may_end() -> None:
    ended: list[str] = []

    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            try:
                await asyncio.Event().wait()
            finally:
                ended.append("generator")

    async def drop_one() -> None:
        async for _ in numbers():
            break  # nobody closes it: the loop does, in a task that is no coroutine's

    with LoopThread() as loop:
        loop.run(drop_one())
    assert ended == ["generator"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_use_after_a_fork_is_refused_and_closing_is_quiet() -> None:
    program = """
import os
from microservice_core import LoopThread, LoopThreadError
async def nothing(): pass
loop = LoopThread(); loop.start()
child = os.fork()
if child == 0:
    try:
        loop.run(nothing())
    except LoopThreadError as error:
        print(error, flush=True)
    loop.close()
    os._exit(0)
os.waitpid(child, 0)
loop.close()
"""
    answer = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30
    )
    assert answer.stdout.strip().endswith("open one per process")
