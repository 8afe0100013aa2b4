import asyncio
import random
from typing import Any

import pytest
from pydantic import ValidationError

from microservice_governance import (
    FaultInjected,
    FaultInjection,
    FaultInjectionConfig,
    InjectedFaultError,
    PipelineOrderError,
    PolicyEvent,
    Timeout,
    pipeline,
    testing,
)


def drill(naps: list[float] | None = None, **settings: Any) -> FaultInjection:
    slept: list[float] = [] if naps is None else naps
    config = FaultInjectionConfig(**settings)
    return FaultInjection(config, sleep=slept.append, rng=random.Random(7))


async def test_the_given_share_of_calls_fails_without_being_made() -> None:
    made = failed = 0
    policy = drill(error_rate=0.3)

    async def call() -> None:
        nonlocal made
        made += 1

    for _ in range(1000):
        try:
            await policy.arun(call)
        except InjectedFaultError:
            failed += 1
    assert made + failed == 1000
    assert 250 < failed < 350


async def test_the_given_share_of_calls_waits_first() -> None:
    naps: list[float] = []
    policy = drill(naps, delay_rate=0.5, delay_seconds=3)
    assert [policy.run(str, 7) for _ in range(100)] == ["7"] * 100
    assert [await policy.arun(asyncio.sleep, 0, 7) for _ in range(100)] == [7] * 100
    assert set(naps) == {3}
    assert 70 < len(naps) < 130


async def test_an_async_sleep_is_awaited_and_refused_for_plain_functions() -> None:
    naps: list[float] = []

    async def nap(seconds: float) -> None:
        naps.append(seconds)

    policy = FaultInjection(FaultInjectionConfig(delay_rate=1, delay_seconds=2), sleep=nap)
    assert await policy(asyncio.sleep)(0, 7) == 7
    assert naps == [2]
    with pytest.raises(TypeError, match="async sleep"):
        policy(str)


def test_without_settings_nothing_happens() -> None:
    assert drill().run(str, 7) == "7"


def test_only_some_calls_are_touched_with_an_error_of_ones_own() -> None:
    policy = FaultInjection(
        FaultInjectionConfig(error_rate=1),
        error=lambda: ConnectionError("drill"),
        only=lambda path: path == "/a",
    )
    assert policy.run(str, "/b") == "/b"
    with pytest.raises(ConnectionError, match="drill"):
        policy.run(str, "/a")


def test_it_is_turned_off_live_and_tells_of_faults() -> None:
    events: list[PolicyEvent] = []
    policy = drill(error_rate=1)
    policy.subscribe(events.append)
    with pytest.raises(InjectedFaultError, match="turn the fault injection off"):
        policy.run(str)
    policy.reconfigure(FaultInjectionConfig())
    policy.run(str)
    assert events == [FaultInjected("fault_injection", "fault injection", "error")]
    assert policy.snapshot()["error_rate"] == 0


def test_in_testing_the_same_calls_are_touched_each_time_and_nobody_waits() -> None:
    policy = FaultInjection(
        FaultInjectionConfig(error_rate=0.5, delay_rate=1, delay_seconds=3600), name="drill"
    )

    def faults() -> list[bool]:
        seen = []
        for _ in range(30):
            try:
                policy.run(str)
                seen.append(False)
            except InjectedFaultError:
                seen.append(True)
        return seen

    with testing():
        first = faults()
    with testing():
        assert faults() == first
    with testing(seed=1):
        assert faults() != first


def test_it_stands_innermost() -> None:
    pipeline(Timeout(1), drill())
    with pytest.raises(PipelineOrderError, match="an injected fault has to reach every policy"):
        pipeline(drill(), Timeout(1))


def test_a_coroutine_function_is_refused_by_run() -> None:
    with pytest.raises(TypeError, match="arun"):
        drill().run(asyncio.sleep, 1)  # type: ignore[unused-coroutine]


@pytest.mark.parametrize("settings", [{"error_rate": 1.1}, {"delay_seconds": -1}, {"rate": 1}])
def test_shares_out_of_range_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(settings))):
        FaultInjectionConfig(**settings)
