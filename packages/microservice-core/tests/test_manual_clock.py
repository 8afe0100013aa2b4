import asyncio

import pytest

from microservice_core import InvalidValueError
from microservice_core.testing import ManualClock, Recorder, eventually, settle


def test_time_stands_still_until_advanced() -> None:
    clock = ManualClock(start=5)
    assert clock() == 5
    clock.advance(2.5)
    assert clock() == 7.5


def test_time_never_goes_back() -> None:
    with pytest.raises(InvalidValueError, match="seconds must be at least 0, not -1"):
        ManualClock().advance(-1)


async def test_sleepers_wake_in_the_order_of_their_time() -> None:
    clock, woken = ManualClock(), list[float]()

    async def sleeper(seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append(seconds)

    tasks = [asyncio.create_task(sleeper(seconds)) for seconds in (3, 1, 2, 0)]
    await settle()
    assert (woken, clock.sleepers) == ([0], 3)
    clock.advance(2)
    await settle()
    assert woken == [0, 1, 2]
    clock.advance(1)
    await asyncio.gather(*tasks)
    assert clock.sleepers == 0


async def test_a_cancelled_sleeper_is_forgotten() -> None:
    clock = ManualClock()
    task = asyncio.create_task(clock.sleep(1))
    await settle()
    task.cancel()
    await settle()
    assert clock.sleepers == 0
    clock.advance(1)


async def test_running_lets_a_loop_of_sleeps_take_every_turn() -> None:
    clock, turns = ManualClock(), list[float]()

    async def ticking() -> None:
        while True:
            await clock.sleep(1)
            turns.append(clock())

    task = asyncio.create_task(ticking())
    await clock.run(3.05)
    assert (turns, clock()) == ([1, 2, 3], 3.05)
    task.cancel()


async def test_waiting_in_vain_shows_the_last_answer() -> None:
    async def probe() -> int:
        return 7

    with pytest.raises(AssertionError, match="the last state was 7"):
        await eventually(probe, lambda answer: answer == 8, within_seconds=0, every_seconds=0)


async def test_a_recorder_waiting_in_vain_shows_what_it_saw() -> None:
    recorder: Recorder[int] = Recorder()
    recorder(1)
    with pytest.raises(AssertionError, match=r"received: \[1\]"):
        await recorder.wait_for(lambda state: state == 2, within_seconds=0)
