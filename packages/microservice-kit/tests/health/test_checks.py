import asyncio
import threading

import pytest

from microservice_core import (
    InvalidValueError,
    MicroserviceError,
)
from microservice_core.testing.clock import settle
from microservice_kit import Health


class TooSmallError(MicroserviceError):
    pass


async def test_plain_and_async_checks_say_up_or_down_and_why() -> None:
    def plain() -> str:
        return f"in {threading.current_thread() is threading.main_thread()}"

    async def refuses() -> None:
        raise TooSmallError("make it larger")

    def explodes() -> None:
        raise ValueError("password=hunter2")

    health = Health()
    for check in (plain, refuses, explodes):
        health.add(check.__name__, check)
    results = await health.check()
    assert (results["plain"].status, results["plain"].detail) == ("up", "in False")
    assert results["refuses"].detail == "TooSmallError: make it larger"
    assert results["explodes"].detail == "ValueError"
    await health.aclose()


async def test_a_check_that_hangs_is_down_after_its_time() -> None:
    health = Health()
    health.add("slow", asyncio.Event().wait, timeout_seconds=0.01)
    assert (await health.check())["slow"].detail == "no result within 0.01 s"


async def test_a_result_is_kept_for_a_while_and_asked_for_once() -> None:
    runs, now = 0, 0.0

    async def check() -> None:
        nonlocal runs
        runs += 1
        await settle()

    health = Health(cache_seconds=5, clock=lambda: now)
    health.add("check", check)
    await asyncio.gather(*(health.check() for _ in range(10)))
    assert runs == 1
    now = 4.9
    await health.check()
    assert runs == 1
    now = 5.1
    await health.check()
    assert runs == 2


async def test_who_stops_waiting_does_not_stop_the_check() -> None:
    go, ran = asyncio.Event(), []

    async def check() -> None:
        await go.wait()
        ran.append(True)

    health = Health()
    health.add("check", check)
    waiting = asyncio.ensure_future(health.check())
    await settle()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    go.set()
    await health.check()
    assert ran == [True]


async def test_ready_means_started_not_draining_and_every_critical_check_up() -> None:
    health, well = Health(cache_seconds=0), True

    def check() -> None:
        if not well:
            raise TooSmallError

    health.add("check", check)
    health.add("nice to have", lambda: 1 / 0, critical=False)
    assert not await health.ready()
    health.started = True
    assert await health.ready()
    well = False
    assert not await health.ready()
    well = True
    health.draining = True
    assert not await health.ready()


def test_checks_are_bounded_and_their_time_is_positive() -> None:
    health = Health()
    with pytest.raises(InvalidValueError, match="timeout_seconds must be a number above 0"):
        health.add("x", lambda: None, timeout_seconds=0)
    for number in range(64):
        health.add(str(number), lambda: None)
    health.add("0", lambda: None)
    with pytest.raises(InvalidValueError, match="at most 64"):
        health.add("one more", lambda: None)


async def test_the_log_names_the_check_and_good_news_is_no_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    health, well = Health(cache_seconds=0), False

    def check() -> None:
        if not well:
            raise TooSmallError

    health.add("disk", check)
    await health.check()
    well = True
    await health.check()
    assert [(record.levelname, record.getMessage()[:29]) for record in caplog.records] == [
        ("WARNING", "health check 'disk' is down n"),
        ("INFO", "health check 'disk' is up now"),
    ]
