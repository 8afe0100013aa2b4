import asyncio
import gc
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from microservice_core import InvalidValueError
from microservice_governance import (
    BreakerConfig,
    CallHedged,
    CircuitBreaker,
    CircuitOpenError,
    Hedge,
    LatencyPercentile,
    PolicyEvent,
    RetryBudget,
    deadline,
)

Runner = Callable[[Coroutine[Any, Any, Any]], Any]


def now() -> float:
    return asyncio.get_running_loop().time()


class Backend:
    """The n-th call takes the n-th time and has the n-th outcome; what is cancelled is noted."""

    def __init__(self, *calls: tuple[float, object]) -> None:
        self.calls = list(calls)
        self.made = 0
        self.cancelled: list[int] = []
        self.began: list[float] = []

    async def __call__(self) -> object:
        number = self.made
        self.made += 1
        self.began.append(now())
        seconds, outcome = self.calls[number]
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            self.cancelled.append(number)
            raise
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome


async def hedge(backend: Backend, **settings: Any) -> object:
    budget = RetryBudget(1, min_per_second=10, clock=now)
    settings = {"delay": 1.0, "budget": budget, "clock": now, **settings}
    return await Hedge(**settings).arun(backend)


def test_an_answer_in_time_is_asked_for_once(in_virtual_time: Runner) -> None:
    backend = Backend((0.9, "first"), (0, "second"))
    assert in_virtual_time(hedge(backend)) == "first"
    assert backend.made == 1


def test_the_second_answer_wins_when_the_first_is_late_and_the_loser_has_ended(
    in_virtual_time: Runner,
) -> None:
    backend = Backend((9, "first"), (0.5, "second"))

    async def main() -> None:
        assert await hedge(backend) == "second"
        assert (now(), backend.cancelled) == (1.5, [0])
        assert len(asyncio.all_tasks()) == 1

    in_virtual_time(main())


def test_the_first_still_may_win(in_virtual_time: Runner) -> None:
    backend = Backend((1.2, "first"), (5, "second"))
    assert in_virtual_time(hedge(backend)) == "first"
    assert backend.cancelled == [1]


def test_as_many_as_allowed_start_one_delay_apart(in_virtual_time: Runner) -> None:
    backend = Backend(*[(10, number) for number in range(5)])
    assert in_virtual_time(hedge(backend, attempts=4)) == 0
    assert backend.began == [0, 1, 2, 3]


def test_a_failure_starts_the_next_at_once_and_the_last_failure_comes_out(
    in_virtual_time: Runner,
) -> None:
    backend = Backend((0, OSError("1")), (0, OSError("2")), (0, OSError("3")))

    async def main() -> None:
        with pytest.raises(OSError, match="3"):
            await hedge(backend, attempts=3)
        assert (now(), backend.made) == (0, 3)

    in_virtual_time(main())


def test_a_failure_does_not_end_the_race_while_another_runs(in_virtual_time: Runner) -> None:
    backend = Backend((2, OSError("late failure")), (3, "second"))
    assert in_virtual_time(hedge(backend)) == "second"


def test_other_errors_come_out_at_once(in_virtual_time: Runner) -> None:
    backend = Backend((2, ValueError("no")), (9, "second"))

    async def main() -> None:
        with pytest.raises(ValueError, match="no"):
            await hedge(backend, on=OSError)
        assert (now(), backend.cancelled) == (2, [1])

    in_virtual_time(main())


def test_who_is_refused_does_not_press_on(in_virtual_time: Runner) -> None:
    backend = Backend((0, CircuitOpenError("orders", "open", 1.0)), (0, "second"))

    async def main() -> None:
        with pytest.raises(CircuitOpenError):
            await hedge(backend)

    in_virtual_time(main())
    assert backend.made == 1


def test_cancelled_it_takes_all_attempts_along(in_virtual_time: Runner) -> None:
    backend = Backend((50, 1), (50, 2))

    async def main() -> None:
        task = asyncio.create_task(hedge(backend))
        await asyncio.sleep(2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert sorted(backend.cancelled) == [0, 1]

    in_virtual_time(main())


def test_an_attempt_that_was_cancelled_inside_is_a_cancellation(in_virtual_time: Runner) -> None:
    async def main() -> None:
        with pytest.raises(asyncio.CancelledError):
            await hedge(Backend((0, asyncio.CancelledError())))

    in_virtual_time(main())


def test_the_loser_counts_as_nothing_for_a_breaker(in_virtual_time: Runner) -> None:
    async def main() -> None:
        config = BreakerConfig(consecutive_failures=1, failure_rate_threshold=None)
        breaker = CircuitBreaker("orders", config)
        backend = Backend((9, "first"), (0, "second"))
        assert await Hedge(delay=1, clock=now).arun(breaker.arun, backend) == "second"
        assert (breaker.current_state, backend.cancelled) == ("closed", [0])

    in_virtual_time(main())


def test_the_budget_bounds_the_additional_calls(in_virtual_time: Runner) -> None:
    async def main() -> None:
        policy = Hedge(delay=0, budget=RetryBudget(0.1, min_per_second=0, clock=now), clock=now)
        made = 0

        async def slow() -> None:
            nonlocal made
            made += 1
            await asyncio.sleep(0.001)

        for _ in range(100):
            await policy.arun(slow)
        assert made == 110

    in_virtual_time(main())


def test_nothing_is_started_after_the_deadline(in_virtual_time: Runner) -> None:
    backend = Backend((3, "first"), (0, "second"))

    async def main() -> None:
        with deadline(0.5, clock=now):
            assert await hedge(backend) == "first"

    in_virtual_time(main())
    assert backend.made == 1


def test_the_delay_is_learned(in_virtual_time: Runner) -> None:
    async def main() -> None:
        percentile = LatencyPercentile(0.9, minimum_calls=10)
        policy = Hedge(delay=percentile, budget=RetryBudget(1, clock=now), clock=now)
        assert policy.delay_seconds is None
        for tenths in range(1, 11):
            assert await policy.arun(asyncio.sleep, tenths / 10, "answer") == "answer"
        assert policy.delay_seconds == pytest.approx(0.9)
        backend, began = Backend((50, 1), (0, 2)), now()
        assert await policy.arun(backend) == 2
        assert now() - began == pytest.approx(0.9)

    in_virtual_time(main())


@given(times=st.lists(st.floats(0, 100), min_size=1, max_size=60), share=st.floats(0.01, 0.99))
def test_the_percentile_is_the_smallest_time_that_enough_calls_kept(
    times: list[float], share: float
) -> None:
    percentile = LatencyPercentile(share, window=60, minimum_calls=len(times))
    for seconds in times:
        percentile.record(seconds)
    value = percentile.seconds
    assert value in times
    assert value is not None
    assert sum(seconds <= value for seconds in times) >= share * len(times) - 1e-9
    assert sum(seconds < value for seconds in times) < share * len(times)


async def test_events_say_which_attempt_it_is() -> None:
    events: list[PolicyEvent] = []
    policy = Hedge(delay=0, name="orders")
    policy.subscribe(events.append)
    release = asyncio.Event()
    calls = 0

    async def call() -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            release.set()
        await release.wait()

    await policy.arun(call)
    assert events == [CallHedged("hedge", "orders", 2)]
    assert policy.snapshot()["delay_seconds"] == 0


def test_a_plain_function_is_refused_at_decoration() -> None:
    with pytest.raises(TypeError, match="make it async"):
        Hedge(delay=1)(lambda: None)
    with pytest.raises(TypeError, match="make it async"):
        Hedge(delay=1).run(print)


@pytest.mark.parametrize(
    ("field", "settings"),
    [
        ("delay", {"delay": -1}),
        ("delay", {"delay": float("nan")}),
        ("attempts", {"delay": 1, "attempts": 1}),
        ("attempts", {"delay": 1, "attempts": 11}),
        ("on", {"delay": 1, "on": ()}),
        ("on", {"delay": 1, "on": (BaseException,)}),
    ],
)
def test_settings_out_of_range_are_refused(field: str, settings: dict[str, Any]) -> None:
    with pytest.raises(InvalidValueError, match=f"^{field} must be"):
        Hedge(**settings)


@pytest.mark.parametrize(
    ("field", "settings"),
    [
        ("share", {"share": 1}),
        ("window", {"share": 0.5, "window": 0}),
        ("minimum_calls", {"share": 0.5, "window": 5, "minimum_calls": 6}),
    ],
)
def test_percentiles_out_of_range_are_refused(field: str, settings: dict[str, Any]) -> None:
    with pytest.raises(InvalidValueError, match=f"^{field} must be"):
        LatencyPercentile(**settings)


def test_it_is_reconfigured() -> None:
    policy = Hedge(delay=1, name="orders")
    policy.reconfigure(delay=2, attempts=3)
    assert repr(policy) == "Hedge('orders', after 2 s, 3 attempts)"
    with pytest.raises(InvalidValueError):
        policy.reconfigure(delay=2, attempts=30)
    assert policy.attempts == 3


def test_attempts_that_end_in_the_same_moment_leave_nothing_unseen(
    in_virtual_time: Runner, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        for _ in range(20):
            backend = Backend((2, OSError("lost")), (1, "second"), (0, OSError("too")))
            assert await hedge(backend, attempts=3) == "second"

    in_virtual_time(main())
    gc.collect()
    assert caplog.text == ""
