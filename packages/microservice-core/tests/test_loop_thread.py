import asyncio
import os
import subprocess
import sys
import threading

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
