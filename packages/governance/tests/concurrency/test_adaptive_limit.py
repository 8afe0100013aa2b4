import asyncio
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from microservice_core import InvalidValueError
from microservice_governance import (
    AdaptiveLimit,
    CallRejected,
    LimitChanged,
    LimitReachedError,
    PolicyEvent,
)
from microservice_governance.concurrency.estimators import ALGORITHMS

NAMES = list(ALGORITHMS)


class Service:
    """Bears so many calls at once; each above that makes all of them slower."""

    def __init__(self, bears: int, seconds: float = 0.1) -> None:
        self.bears = bears
        self.seconds = seconds

    def takes(self, in_flight: int) -> float:
        return self.seconds * max(1.0, in_flight / self.bears)


def settled(name: str, service: Service, calls: int = 3000, initial: int = 20) -> float:
    """The limit under a demand that always uses all of it."""
    algorithm = ALGORITHMS[name](initial, 1, 1000)
    for _ in range(calls):
        in_flight = int(algorithm.limit)
        seconds = service.takes(in_flight)
        algorithm.learn(seconds, in_flight, seconds > 0.5)
    return algorithm.limit


@pytest.mark.parametrize("name", NAMES)
def test_it_finds_a_limit_near_what_the_service_bears(name: str) -> None:
    assert 30 <= settled(name, Service(bears=50)) <= 400


@pytest.mark.parametrize("name", NAMES)
def test_it_comes_down_when_the_service_bears_less(name: str) -> None:
    assert settled(name, Service(bears=4), initial=900) < 100


@pytest.mark.parametrize("name", NAMES)
def test_it_does_not_grow_where_nobody_needs_it(name: str) -> None:
    algorithm = ALGORITHMS[name](20, 1, 1000)
    for _ in range(1000):
        algorithm.learn(0.1, 2, False)
    assert algorithm.limit == 20


@pytest.mark.parametrize("name", NAMES)
@given(
    calls=st.lists(st.tuples(st.floats(0, 1e6), st.integers(1, 2000), st.booleans()), max_size=200)
)
def test_it_stays_within_its_bounds(name: str, calls: list[tuple[float, int, bool]]) -> None:
    algorithm = ALGORITHMS[name](10, 3, 50)
    for seconds, in_flight, dropped in calls:
        algorithm.learn(seconds, in_flight, dropped)
        assert 3 <= algorithm.limit <= 50


def test_aimd_adds_one_and_takes_a_tenth() -> None:
    algorithm = ALGORITHMS["aimd"](10, 1, 100)
    algorithm.learn(0.1, 5, False)
    assert algorithm.limit == 11
    algorithm.learn(0.1, 5, False)
    assert algorithm.limit == 11
    algorithm.learn(0.1, 9, True)
    assert algorithm.limit == pytest.approx(9.9)


async def test_calls_above_the_limit_are_refused() -> None:
    policy = AdaptiveLimit("aimd", initial=2, name="orders")
    events: list[PolicyEvent] = []
    policy.subscribe(events.append)
    release = asyncio.Event()
    tasks = [asyncio.create_task(policy.arun(release.wait)) for _ in range(2)]
    await asyncio.sleep(0)
    assert policy.load == 1
    with pytest.raises(LimitReachedError, match="'orders' allows 2 calls at once") as caught:
        await policy.arun(release.wait)
    assert caught.value.limit == 2
    release.set()
    await asyncio.gather(*tasks)
    assert (policy.in_flight, policy.limit) == (0, 3)
    assert events == [
        CallRejected("adaptive_limit", "orders", None),
        LimitChanged("adaptive_limit", "orders", 2, 3),
    ]
    assert policy.snapshot()["limit"] == 3


def raises(error: BaseException) -> None:
    raise error


@pytest.mark.parametrize(
    ("error", "limit"),
    [(TimeoutError(), 9), (OSError(), 10), (asyncio.CancelledError(), 10), (None, 11)],
)
def test_only_successes_and_drops_teach_it(error: BaseException | None, limit: int) -> None:
    policy = AdaptiveLimit("aimd", initial=10)
    for _ in range(5):
        policy._in_flight += 1  # so that the limit is in use
    if error is None:
        policy.run(lambda: None)
    else:
        with pytest.raises(type(error)):
            policy.run(raises, error)
    assert policy.limit == limit
    assert policy.in_flight == 5


def test_threads_never_are_more_than_the_limit() -> None:
    policy = AdaptiveLimit("gradient2", initial=3, max_limit=3)
    inside, most, lock = 0, 0, threading.Lock()

    @policy
    def visit() -> None:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        with lock:
            inside -= 1

    def visits() -> None:
        for _ in range(200):
            try:
                visit()
            except LimitReachedError:
                continue

    threads = [threading.Thread(target=visits) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most <= 3
    assert policy.in_flight == 0


def test_a_coroutine_function_is_refused_by_run() -> None:
    policy = AdaptiveLimit(initial=5)
    with pytest.raises(TypeError, match="arun"):
        policy.run(asyncio.sleep, 1)  # type: ignore[unused-coroutine]
    assert (policy.in_flight, repr(policy)) == (0, "AdaptiveLimit('gradient2', 0 of 5)")


@pytest.mark.parametrize(
    ("field", "arguments"),
    [
        ("algorithm", {"algorithm": "magic"}),
        ("limits", {"initial": 0}),
        ("limits", {"initial": 5, "min_limit": 6}),
        ("limits", {"initial": 5, "max_limit": 4}),
        ("on", {"dropped_on": ()}),
    ],
)
def test_settings_out_of_range_are_refused(field: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(InvalidValueError, match=f"^{field} must be"):
        AdaptiveLimit(**arguments)
