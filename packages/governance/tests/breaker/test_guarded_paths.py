"""`run`, `arun` and both decorators have a success path each: one table of outcomes for all four."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pybreaker
import pytest

from microservice_governance import BreakerConfig, CircuitBreaker, CircuitOpenError, RejectedError

Path = Callable[..., Any]


def drive(awaitable: Awaitable[Any]) -> Any:
    """The result of a coroutine that never suspends."""
    with pytest.raises(StopIteration) as end:
        next(awaitable.__await__())
    return end.value.value


def through_run(breaker: CircuitBreaker, call: Callable[[], Any], *args: object) -> Any:
    return breaker.run(call, *args)


def through_arun(breaker: CircuitBreaker, call: Callable[[], Any], *args: object) -> Any:
    async def later() -> Any:
        return call()

    return drive(breaker.arun(later, *args))


def through_guard_sync(breaker: CircuitBreaker, call: Callable[[], Any], *args: object) -> Any:
    return breaker.guard_sync(call)(*args)


def through_guard_async(breaker: CircuitBreaker, call: Callable[[], Any], *args: object) -> Any:
    async def later() -> Any:
        return call()

    return drive(breaker.guard_async(later)(*args))


SYNC_PATHS = [through_run, through_guard_sync]
ASYNC_PATHS = [through_arun, through_guard_async]
every_path = pytest.mark.parametrize("path", SYNC_PATHS + ASYNC_PATHS)

CONFIGS: dict[str, dict[str, Any]] = {
    "count window": {},
    "time window": {"sliding_window_type": "time"},
    "slow calls": {"slow_call_rate_threshold": 1.0},
    "judged results": {"record_result": lambda result: result == "bad"},
    "listener": {},
}


def make_breaker(kind: str, clock: Any, **settings: Any) -> CircuitBreaker:
    config = BreakerConfig(
        slow_call_seconds=5,
        record_exceptions=(OSError,),
        ignore_exceptions=(FileNotFoundError,),
        **CONFIGS[kind],
        **settings,
    )
    listeners = [Diary()] if kind == "listener" else []
    return CircuitBreaker("orders", config, clock=clock, listeners=listeners)


class Diary(pybreaker.CircuitBreakerListener):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def before_call(self, cb: Any, func: Any, *args: Any, **kwargs: Any) -> None:
        self.lines.append("before")

    def success(self, cb: Any) -> None:
        self.lines.append("success")

    def failure(self, cb: Any, exc: BaseException) -> None:
        self.lines.append(f"failure {exc}")


def raises(error: BaseException) -> Callable[[], Any]:
    def call() -> Any:
        raise error

    return call


# What the call does, and what is then counted: calls and failures.
OUTCOMES: dict[str, tuple[Callable[[], Any], tuple[int, int]]] = {
    "a success": (lambda: "fine", (1, 0)),
    "a failure": (raises(OSError("down")), (1, 1)),
    "an exception that is not recorded": (raises(ValueError("no")), (1, 0)),
    "an ignored exception": (raises(FileNotFoundError("none")), (0, 0)),
    "a refusal": (raises(RejectedError("full", policy="bulkhead", name="inner")), (0, 0)),
    "a cancellation": (raises(asyncio.CancelledError()), (0, 0)),
    "an exit": (raises(SystemExit()), (0, 0)),
}


@every_path
@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("outcome", OUTCOMES)
def test_each_outcome_is_counted_alike_on_each_path(
    path: Path, kind: str, outcome: str, clock: Any
) -> None:
    breaker = make_breaker(kind, clock)
    call, counted = OUTCOMES[outcome]
    if outcome == "a success":
        assert path(breaker, call) == "fine"
    else:
        with pytest.raises(BaseException) as caught:
            path(breaker, call)
        with pytest.raises(type(caught.value)) as expected:
            call()
        assert caught.value is expected.value
    snapshot = breaker.snapshot()
    assert (snapshot["calls"], snapshot["failures"]) == counted


@every_path
@pytest.mark.parametrize("outcome", OUTCOMES)
def test_each_outcome_settles_a_trial_alike_on_each_path(
    path: Path, outcome: str, clock: Any
) -> None:
    breaker = make_breaker("count window", clock, permitted_half_open_calls=1)
    breaker.open()
    clock.advance(30)
    call, (calls, failures) = OUTCOMES[outcome]
    try:
        path(breaker, call)
    except BaseException as error:  # noqa: BLE001 - the state is looked at
        assert outcome != "a success", error  # noqa: PT017
    expected = "half-open" if not calls else "open" if failures else "closed"
    assert breaker.current_state == expected
    if expected == "half-open":
        assert breaker.snapshot()["trials_left"] == 1


@every_path
@pytest.mark.parametrize("kind", ["count window", "listener"])
def test_an_open_circuit_calls_nothing_on_any_path(path: Path, kind: str, clock: Any) -> None:
    breaker = make_breaker(kind, clock)
    breaker.open()
    with pytest.raises(CircuitOpenError):
        path(breaker, lambda: pytest.fail("it was called"))


@every_path
@pytest.mark.parametrize("kind", CONFIGS)
def test_a_call_with_wrong_arguments_is_not_counted_on_any_path(
    path: Path, kind: str, clock: Any
) -> None:
    breaker = make_breaker(kind, clock)
    with pytest.raises(TypeError, match="positional argument"):
        path(breaker, lambda: "fine", 1, 2, 3)
    assert breaker.snapshot()["calls"] == 0


@every_path
def test_a_slow_call_is_counted_as_slow_on_each_path(path: Path, clock: Any) -> None:
    breaker = make_breaker("slow calls", clock)
    for seconds in (0, 4.9, 5, 60):
        path(breaker, lambda seconds=seconds: clock.advance(seconds))
    snapshot = breaker.snapshot()
    assert (snapshot["calls"], snapshot["slow_calls"], snapshot["failures"]) == (4, 2, 0)


@every_path
def test_a_success_is_counted_in_the_second_of_its_end_on_each_path(path: Path, clock: Any) -> None:
    breaker = make_breaker("time window", clock, sliding_window_size=10)
    path(breaker, lambda: clock.advance(3))
    clock.advance(9)
    assert breaker.snapshot()["calls"] == 1
    path(breaker, lambda: None)
    assert breaker.snapshot()["calls"] == 2
    clock.advance(1)
    assert breaker.snapshot()["calls"] == 1
    clock.advance(9)
    assert breaker.snapshot()["calls"] == 0


@every_path
def test_a_judged_result_is_counted_as_a_failure_on_each_path(path: Path, clock: Any) -> None:
    breaker = make_breaker("judged results", clock)
    assert path(breaker, lambda: "bad") == "bad"
    assert path(breaker, lambda: "good") == "good"
    snapshot = breaker.snapshot()
    assert (snapshot["calls"], snapshot["failures"]) == (2, 1)


@every_path
def test_a_listener_is_notified_alike_on_each_path(path: Path, clock: Any) -> None:
    diary = Diary()
    breaker = make_breaker("count window", clock)
    breaker.add_listener(diary)
    path(breaker, lambda: "fine")
    with pytest.raises(OSError, match="down"):
        path(breaker, raises(OSError("down")))
    breaker.remove_listener(diary)
    path(breaker, lambda: "fine")
    assert diary.lines == ["before", "success", "before", "failure down"]


@every_path
def test_a_listener_added_during_a_call_is_notified_of_its_end_on_each_path(
    path: Path, clock: Any
) -> None:
    diary = Diary()
    breaker = make_breaker("count window", clock)
    path(breaker, lambda: breaker.add_listener(diary))
    assert diary.lines == ["success"]
    assert breaker.snapshot()["calls"] == 1


@every_path
def test_settings_that_change_during_a_call_apply_to_its_result_on_each_path(
    path: Path, clock: Any
) -> None:
    breaker = make_breaker("count window", clock)
    path(breaker, lambda: breaker.reconfigure(BreakerConfig()))
    assert breaker.snapshot()["calls"] == 0  # its window is gone
    path(breaker, lambda: None)
    assert breaker.snapshot()["calls"] == 1


@every_path
def test_a_call_that_outlives_its_state_is_not_counted_on_any_path(path: Path, clock: Any) -> None:
    breaker = make_breaker("count window", clock)

    def outlive() -> None:
        breaker.open()
        breaker.close()

    path(breaker, outlive)
    assert breaker.snapshot()["calls"] == 0


async def later() -> str:
    return "late"


@pytest.mark.parametrize("path", SYNC_PATHS)
@pytest.mark.parametrize("kind", CONFIGS)
def test_a_coroutine_is_no_success_on_a_sync_path(path: Path, kind: str, clock: Any) -> None:
    breaker = make_breaker(kind, clock)
    with pytest.raises(TypeError, match=r"use arun\(\)"):
        path(breaker, later)
    assert breaker.snapshot()["calls"] == 0


@pytest.mark.parametrize("path", ASYNC_PATHS)
@pytest.mark.parametrize("kind", CONFIGS)
def test_a_coroutine_that_an_async_function_returns_is_its_result(
    path: Path, kind: str, clock: Any
) -> None:
    breaker = make_breaker(kind, clock)
    result = path(breaker, later)
    assert drive(result) == "late"
    assert breaker.snapshot()["calls"] == 1
