"""What pybreaker promises, on both breakers: the same calls one after the other, the same states."""

import logging
import time
from typing import Any

import pybreaker
import pytest
from hypothesis import given
from hypothesis import strategies as st

from microservice_governance import (
    BreakerConfig,
    BreakerState,
    CircuitBreaker,
    CircuitOpenError,
    DeadlineExceededError,
    Timeout,
    deadline,
)

CALLS = st.lists(st.sampled_from(["ok", "failed", "excluded"]), max_size=60)


class ExcludedError(Exception):
    pass


def outcome(kind: str) -> str:
    if kind == "failed":
        raise OSError("down")
    if kind == "excluded":
        raise ExcludedError
    return kind


def seen(breaker: pybreaker.CircuitBreaker, kind: str) -> tuple[str, str]:
    try:
        result = breaker.call(outcome, kind)
    except pybreaker.CircuitBreakerError:
        result = "refused"
    except (OSError, ExcludedError) as error:
        result = type(error).__name__
    return result, breaker.current_state


@given(calls=CALLS, fail_max=st.integers(1, 5), trials=st.integers(1, 4))
def test_consecutive_failures_open_both_alike(calls: list[str], fail_max: int, trials: int) -> None:
    """With an open time that never ends; success after an exclusion is where the two differ."""
    theirs = pybreaker.CircuitBreaker(
        fail_max=fail_max, reset_timeout=10_000, throw_new_error_on_trip=False
    )
    config = BreakerConfig(
        consecutive_failures=fail_max,
        failure_rate_threshold=None,
        open_seconds=10_000,
        max_open_seconds=10_000,
        permitted_half_open_calls=trials,
    )
    ours = CircuitBreaker("ours", config)
    for kind in calls:
        if kind == "excluded":
            continue
        assert seen(ours, kind) == seen(theirs, kind)
        assert ours.fail_counter == theirs.fail_counter or ours.current_state == "open"


@given(calls=CALLS, trials=st.integers(1, 4))
def test_half_open_closes_and_opens_both_alike(calls: list[str], trials: int) -> None:
    theirs = pybreaker.CircuitBreaker(
        fail_max=1,
        reset_timeout=10_000,
        success_threshold=trials,
        throw_new_error_on_trip=False,
    )
    config = BreakerConfig(
        consecutive_failures=1,
        failure_rate_threshold=None,
        open_seconds=10_000,
        max_open_seconds=10_000,
        permitted_half_open_calls=trials,
    )
    ours = CircuitBreaker("ours", config)
    theirs.open()
    ours.open()
    theirs.half_open()
    ours.half_open()
    for kind in calls:
        if kind != "excluded":
            assert seen(ours, kind) == seen(theirs, kind)


def test_an_exclusion_counts_as_success_there_and_as_nothing_here() -> None:
    theirs = pybreaker.CircuitBreaker(fail_max=2, exclude=[ExcludedError])
    ours = CircuitBreaker("ours", BreakerConfig(consecutive_failures=2))
    ours.add_excluded_exception(ExcludedError)
    for breaker in (theirs, ours):
        seen(breaker, "failed")
        seen(breaker, "excluded")
    assert (theirs.fail_counter, ours.fail_counter) == (0, 1)


def test_a_storage_of_pybreakers_is_told_and_says_where_to_begin(clock: Any) -> None:
    storage = pybreaker.CircuitMemoryStorage(pybreaker.STATE_OPEN)
    breaker = CircuitBreaker("orders", clock=clock, state_storage=storage)
    assert breaker.current_state == "open"
    clock.advance(30)
    assert breaker.run(str) == ""
    assert storage.state == "half-open"
    breaker.close()
    assert storage.state == "closed"
    breaker.open()
    assert (storage.state, storage.opened_at is None) == ("open", False)
    breaker.transition_to(BreakerState.FORCED_OPEN)
    assert storage.state == "open"


def test_a_storage_that_fails_harms_nobody(clock: Any, caplog: pytest.LogCaptureFixture) -> None:
    class Broken(pybreaker.CircuitMemoryStorage):
        @property
        def state(self) -> str:
            return "closed"

        @state.setter
        def state(self, state: str) -> None:
            raise RuntimeError("storage")

    storage = Broken(pybreaker.STATE_CLOSED)
    breaker = CircuitBreaker("orders", clock=clock, state_storage=storage)
    with caplog.at_level(logging.ERROR):
        breaker.open()
    assert breaker.current_state == "open"
    assert "the storage of circuit 'orders' failed" in caplog.text


class Diary(pybreaker.CircuitBreakerListener):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def success(self, cb: Any) -> None:
        self.lines.append("success")

    def failure(self, cb: Any, exc: BaseException) -> None:
        self.lines.append(f"failure {exc}")


async def test_listeners_come_and_go_at_any_time() -> None:
    judged = BreakerConfig(record_result=lambda result: result == "bad")
    breaker, diary = CircuitBreaker("orders", judged), Diary()

    async def later(result: str) -> str:
        return result

    guarded = breaker(later)
    await guarded("fine")
    breaker.add_listeners(diary)
    await guarded("fine")
    await guarded("bad")
    assert breaker.run(str, "bad") == "bad"
    breaker.remove_listener(diary)
    await guarded("fine")
    assert diary.lines == ["success", "failure returned 'bad'", "failure returned 'bad'"]


def test_a_wrong_call_is_no_outcome(clock: Any) -> None:
    breaker = CircuitBreaker("orders", BreakerConfig(consecutive_failures=1), clock=clock)

    def one(argument: int) -> int:
        return argument

    wrong: Any = one
    with pytest.raises(TypeError, match="missing 1 required"):
        breaker.run(wrong)
    with pytest.raises(TypeError, match="missing 1 required"):
        breaker(wrong)()
    assert breaker.current_state == "closed"


async def test_a_plain_function_where_an_async_one_belongs_is_no_outcome(clock: Any) -> None:
    breaker = CircuitBreaker("orders", BreakerConfig(consecutive_failures=1), clock=clock)
    wrong: Any = str
    with pytest.raises(TypeError, match="await"):
        await breaker.arun(wrong)
    assert breaker.current_state == "closed"


def test_settings_change_while_it_is_open(clock: Any) -> None:
    breaker = CircuitBreaker("orders", BreakerConfig(open_seconds=100), clock=clock)
    breaker.open()
    clock.advance(10)
    breaker.reconfigure(BreakerConfig(open_seconds=20))
    assert breaker.retry_after == 20
    breaker.reconfigure(BreakerConfig(open_seconds=200))
    assert breaker.retry_after == 20
    clock.advance(20)
    assert breaker.run(str) == ""


@pytest.mark.parametrize("state", list(BreakerState))
def test_the_snapshot_of_every_state_is_plain(clock: Any, state: BreakerState) -> None:
    breaker = CircuitBreaker("orders", BreakerConfig(sliding_window_type="time"), clock=clock)
    breaker.acquire().release(OSError())
    breaker.acquire().release()
    snapshot = breaker.snapshot()
    assert (snapshot["calls"], snapshot["failures"]) == (2, 1)
    if state is BreakerState.HALF_OPEN:
        breaker.open()
    breaker.transition_to(state)
    assert breaker.snapshot()["state"] == state.value


def test_a_refusal_can_be_pickled_and_says_the_same(clock: Any) -> None:
    import pickle

    error = CircuitOpenError("orders", "open", 1.5)
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    assert (str(again), again.name, again.state, again.retry_after) == (
        str(error),
        "orders",
        "open",
        1.5,
    )


def test_the_clock_of_all_states_is_monotonic() -> None:
    assert CircuitBreaker("orders").clock is time.monotonic


def test_an_exception_may_be_judged_by_what_it_says(clock: Any) -> None:
    config = BreakerConfig(
        consecutive_failures=1, record_exception=lambda error: "down" in str(error)
    )
    breaker = CircuitBreaker("orders", config, clock=clock)
    breaker.acquire().release(OSError("not found"))
    assert breaker.current_state == "closed"
    breaker.acquire().release(OSError("down"))
    assert breaker.current_state == "open"


@pytest.mark.parametrize("window", ["count", "time"])
async def test_slow_calls_open_it_in_every_form(clock: Any, window: Any) -> None:
    config = BreakerConfig(
        slow_call_rate_threshold=1,
        slow_call_seconds=1,
        sliding_window_type=window,
        sliding_window_size=60,
        minimum_calls=4,
    )

    def breaker() -> CircuitBreaker:
        return CircuitBreaker("orders", config, clock=clock)

    def slow() -> None:
        clock.advance(1)

    async def later() -> None:
        clock.advance(1)

    one, two, three, four = breaker(), breaker(), breaker(), breaker()
    plain, guarded = one(slow), two(later)
    for number in range(4):
        assert (one.current_state, two.current_state) == ("closed", "closed"), number
        plain()
        await guarded()
        three.run(slow)
        await four.arun(later)
    states = [each.current_state for each in (one, two, three, four)]
    assert states == ["open"] * 4


async def test_good_calls_leave_a_time_window_in_every_form(clock: Any) -> None:
    config = BreakerConfig(sliding_window_type="time", sliding_window_size=10, minimum_calls=3)

    async def later() -> None:
        pass

    breaker = CircuitBreaker("orders", config, clock=clock)
    guarded, plain = breaker(later), breaker(lambda: None)
    for _ in range(6):
        await guarded()
        plain()
        clock.advance(1)
    assert breaker.snapshot()["calls"] == 12
    clock.advance(6)
    assert breaker.snapshot()["calls"] == 6
    clock.advance(60)
    for _ in range(3):
        breaker.acquire().release(OSError())
    assert breaker.current_state == "open"


def test_a_decorated_plain_function_is_announced_too(clock: Any) -> None:
    diary = Diary()
    breaker = CircuitBreaker("orders", clock=clock, listeners=[diary])

    @breaker
    def call(fails: bool) -> None:
        if fails:
            raise OSError("down")

    call(False)
    with pytest.raises(OSError, match="down"):
        call(True)
    assert diary.lines == ["success", "failure down"]


def test_a_coroutine_in_a_decorated_plain_function_is_no_outcome(clock: Any) -> None:
    async def later() -> None:
        pass

    breaker = CircuitBreaker("orders", BreakerConfig(consecutive_failures=1), clock=clock)
    guarded = breaker(lambda: later())  # noqa: PLW0108 - the mistake
    with pytest.raises(TypeError, match="use arun"):
        guarded()  # type: ignore[unused-coroutine]
    assert (breaker.current_state, breaker.snapshot()["calls"]) == ("closed", 0)


def test_a_call_that_came_too_late_to_be_made_is_no_outcome(clock: Any) -> None:
    breaker = CircuitBreaker("orders", BreakerConfig(consecutive_failures=1), clock=clock)
    inner = Timeout(5, clock=clock)
    with deadline(1, clock=clock):
        clock.advance(2)
        with pytest.raises(DeadlineExceededError):
            breaker.run(inner.run, str)
    assert (breaker.current_state, breaker.snapshot()["calls"]) == ("closed", 0)
