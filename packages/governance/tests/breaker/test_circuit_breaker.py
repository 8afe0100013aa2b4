import asyncio
import gc
import threading
from collections.abc import Callable
from typing import Any

import pybreaker
import pytest
from pydantic import ValidationError

from microservice_governance import (
    BreakerConfig,
    BreakerState,
    CircuitBreaker,
    CircuitOpenError,
    DeadlineExceededError,
    GovernanceError,
    IllegalTransitionError,
    RejectedError,
)

CONSECUTIVE = BreakerConfig(
    consecutive_failures=3,
    failure_rate_threshold=None,
    open_seconds=10,
    permitted_half_open_calls=3,
)


class Backend:
    """Something to call that fails on demand and counts its calls."""

    def __init__(self) -> None:
        self.calls = 0
        self.error: BaseException | None = None

    def __call__(self) -> str:
        self.calls += 1
        if self.error is not None:
            raise self.error
        return "fine"

    async def later(self) -> str:
        await asyncio.sleep(0)
        return self()


def fail(breaker: CircuitBreaker, times: int = 1, error: Exception | None = None) -> None:
    for _ in range(times):
        breaker.acquire().release(error or OSError("down"))


def succeed(breaker: CircuitBreaker, times: int = 1) -> None:
    for _ in range(times):
        breaker.acquire().release()


def opened(clock: Any, config: BreakerConfig = CONSECUTIVE) -> CircuitBreaker:
    breaker = CircuitBreaker("orders", config, clock=clock)
    fail(breaker, 3)
    assert breaker.current_state is BreakerState.OPEN
    return breaker


def half_opened(clock: Any, config: BreakerConfig = CONSECUTIVE) -> CircuitBreaker:
    breaker = opened(clock, config)
    clock.advance(config.open_seconds)
    return breaker


def test_failures_in_a_row_open_it_and_a_success_between_resets(clock: Any) -> None:
    breaker = CircuitBreaker("orders", CONSECUTIVE, clock=clock)
    fail(breaker, 2)
    succeed(breaker)
    fail(breaker, 2)
    assert (breaker.current_state, breaker.fail_counter) == ("closed", 2)
    fail(breaker)
    assert breaker.current_state == "open"


def test_an_open_breaker_rejects_without_calling(clock: Any) -> None:
    breaker, backend = opened(clock), Backend()
    clock.advance(4)
    with pytest.raises(
        CircuitOpenError, match=r"'orders' is open: try again in 6\.000 s"
    ) as caught:
        breaker.run(backend)
    assert backend.calls == 0
    assert (caught.value.retry_after, caught.value.name) == (6, "orders")
    assert caught.value.policy == "circuit_breaker"
    assert breaker.retry_after == 6


@pytest.mark.parametrize("kind", [pybreaker.CircuitBreakerError, GovernanceError, RejectedError])
def test_the_rejection_is_caught_by_pybreakers_name_and_by_ours(
    clock: Any, kind: type[Exception]
) -> None:
    with pytest.raises(kind):
        opened(clock).acquire()


def test_the_failure_rate_opens_it_once_there_are_enough_calls(clock: Any) -> None:
    config = BreakerConfig(failure_rate_threshold=0.5, sliding_window_size=10, minimum_calls=4)
    breaker = CircuitBreaker("orders", config, clock=clock)
    fail(breaker, 2)
    succeed(breaker)
    assert breaker.current_state == "closed"
    fail(breaker)
    assert breaker.current_state == "open"


def test_slow_calls_open_it(clock: Any) -> None:
    config = BreakerConfig(
        slow_call_rate_threshold=0.5, slow_call_seconds=1, sliding_window_size=4, minimum_calls=4
    )
    breaker = CircuitBreaker("orders", config, clock=clock)

    def slow() -> None:
        clock.advance(1)

    breaker.run(lambda: None)
    breaker.run(lambda: None)
    breaker.run(slow)
    assert breaker.current_state == "closed"
    breaker.run(slow)
    assert breaker.current_state == "open"


def test_old_calls_leave_a_time_window(clock: Any) -> None:
    config = BreakerConfig(
        sliding_window_type="time", sliding_window_size=10, minimum_calls=4, open_seconds=5
    )
    breaker = CircuitBreaker("orders", config, clock=clock)
    fail(breaker, 3)
    clock.advance(11)
    fail(breaker, 3)
    assert breaker.current_state == "closed"
    fail(breaker)
    assert breaker.current_state == "open"


def test_after_the_open_time_trials_close_it(clock: Any) -> None:
    breaker = half_opened(clock)
    succeed(breaker)
    assert breaker.current_state == "half-open"
    succeed(breaker, 2)
    assert breaker.current_state == "closed"


def test_one_failed_trial_opens_it_again_for_the_whole_time(clock: Any) -> None:
    breaker = half_opened(clock)
    fail(breaker)
    assert breaker.current_state == "open"
    clock.advance(9.9)
    with pytest.raises(CircuitOpenError):
        breaker.acquire()
    clock.advance(0.1)
    assert breaker.acquire() is not None


def test_with_a_rate_some_trials_may_fail(clock: Any) -> None:
    config = BreakerConfig(minimum_calls=3, permitted_half_open_calls=4, open_seconds=10)
    breaker = half_opened(clock, config)
    fail(breaker)
    succeed(breaker, 2)
    assert breaker.current_state == "half-open"
    succeed(breaker)
    assert breaker.current_state == "closed"
    breaker = half_opened(clock, config)
    fail(breaker, 2)
    assert breaker.current_state == "open"


async def test_of_a_hundred_tasks_at_half_open_exactly_the_permitted_ones_call(clock: Any) -> None:
    breaker, backend = half_opened(clock), Backend()
    results = await asyncio.gather(
        *(breaker.arun(backend.later) for _ in range(100)), return_exceptions=True
    )
    assert backend.calls == 3
    assert sum(isinstance(result, CircuitOpenError) for result in results) == 97
    assert breaker.current_state == "closed"


def test_of_many_threads_at_half_open_exactly_the_permitted_ones_call(clock: Any) -> None:
    breaker, backend = half_opened(clock), Backend()
    start, may_end = threading.Barrier(20), threading.Event()
    rejected = threading.Semaphore(0)

    def held() -> None:
        backend()
        may_end.wait(10)

    def visit() -> None:
        start.wait()
        try:
            breaker.run(held)
        except CircuitOpenError:
            rejected.release()

    threads = [threading.Thread(target=visit) for _ in range(20)]
    for thread in threads:
        thread.start()
    # Only when everyone else was refused may the trials end and close the circuit.
    assert all(rejected.acquire(timeout=10) for _ in range(17))
    assert backend.calls == 3
    may_end.set()
    for thread in threads:
        thread.join()
    assert not rejected.acquire(blocking=False)


def test_rejections_in_half_open_say_when_trials_are_renewed(clock: Any) -> None:
    breaker = half_opened(clock)
    permits = [breaker.acquire() for _ in range(3)]
    clock.advance(4)
    with pytest.raises(CircuitOpenError, match="half-open") as caught:
        breaker.acquire()
    assert caught.value.retry_after == 6
    assert len(permits) == 3


def test_lost_trials_are_given_up_and_no_longer_count(clock: Any) -> None:
    breaker = half_opened(clock)
    lost = [breaker.acquire() for _ in range(3)]
    clock.advance(10)
    kept = breaker.acquire()
    for permit in lost:
        permit.release(OSError())
    assert breaker.current_state == "half-open"
    kept.release()
    succeed(breaker, 2)
    assert breaker.current_state == "closed"


def test_a_half_open_breaker_nobody_called_still_caps_its_trials(clock: Any) -> None:
    breaker = CircuitBreaker("orders", CONSECUTIVE, clock=clock)
    breaker.open()
    breaker.half_open()
    clock.advance(1000)
    permits = [breaker.acquire() for _ in range(3)]
    with pytest.raises(CircuitOpenError):
        breaker.acquire()
    assert len(permits) == 3


def test_results_of_an_earlier_time_are_dropped(clock: Any) -> None:
    breaker = CircuitBreaker("orders", CONSECUTIVE, clock=clock)
    early = [breaker.acquire() for _ in range(5)]
    fail(breaker, 3)
    early.pop().release(OSError())
    clock.advance(10)
    trial = breaker.acquire()
    for permit in early:
        permit.release(OSError())
    assert breaker.current_state == "half-open"
    trial.release()
    assert breaker.current_state == "half-open"


async def test_a_cancelled_call_counts_as_nothing_and_stays_cancelled(clock: Any) -> None:
    breaker = half_opened(clock)
    waiting = asyncio.Event()

    async def forever() -> None:
        waiting.set()
        await asyncio.Event().wait()

    for _ in range(5):
        waiting.clear()
        task = asyncio.create_task(breaker.arun(forever))
        await waiting.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()
    assert breaker.current_state == "half-open"
    succeed(breaker, 3)
    assert breaker.current_state == "closed"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), GeneratorExit(), SystemExit()])
def test_what_is_no_exception_is_neutral(clock: Any, error: BaseException) -> None:
    breaker = half_opened(clock)
    with pytest.raises(type(error)), breaker.acquire():
        raise error
    succeed(breaker, 3)
    assert breaker.current_state == "closed"


def test_rejections_from_further_in_are_neutral(clock: Any) -> None:
    breaker = CircuitBreaker("orders", CONSECUTIVE, clock=clock)
    fail(breaker, 9, RejectedError("full", policy="bulkhead", name="orders"))
    fail(breaker, 9, CircuitOpenError("inner", "open", 1.0))
    assert breaker.current_state == "closed"


def test_ignored_is_neutral_and_not_recorded_is_success(clock: Any) -> None:
    config = BreakerConfig(
        consecutive_failures=3,
        record_exceptions=(OSError,),
        ignore_exceptions=(FileNotFoundError,),
    )
    breaker = CircuitBreaker("orders", config, clock=clock)
    fail(breaker, 2)
    fail(breaker, 5, FileNotFoundError())
    assert breaker.fail_counter == 2
    fail(breaker, 1, ValueError())
    assert breaker.fail_counter == 0


def test_pybreakers_exclusions_are_neutral(clock: Any) -> None:
    breaker = half_opened(clock)
    breaker.add_excluded_exception(KeyError)
    fail(breaker, 5, KeyError())
    assert breaker.current_state == "half-open"


def test_a_result_may_count_as_failure(clock: Any) -> None:
    config = BreakerConfig(consecutive_failures=2, record_result=lambda result: result == 500)
    breaker = CircuitBreaker("orders", config, clock=clock)
    assert [breaker.run(lambda: 500) for _ in range(2)] == [500, 500]
    assert breaker.current_state == "open"


def test_a_permit_is_released_once(clock: Any) -> None:
    breaker = CircuitBreaker("orders", CONSECUTIVE, clock=clock)
    permit = breaker.acquire()
    for _ in range(5):
        permit.release(OSError())
    assert breaker.fail_counter == 1


def test_a_dropped_permit_gives_its_place_back(clock: Any) -> None:
    breaker = half_opened(clock)
    dropped: list[object] = [breaker.acquire() for _ in range(3)]
    dropped.append(dropped)
    del dropped
    gc.collect()
    succeed(breaker, 3)
    assert breaker.current_state == "closed"


def test_the_duration_may_be_given(clock: Any) -> None:
    config = BreakerConfig(slow_call_rate_threshold=1, slow_call_seconds=2, minimum_calls=1)
    breaker = CircuitBreaker("orders", config, clock=clock)
    breaker.acquire().release(duration=2)
    assert breaker.current_state == "open"


def test_the_open_time_grows_with_each_failed_trial_up_to_its_cap(clock: Any) -> None:
    config = CONSECUTIVE.model_copy(
        update={"open_seconds_multiplier": 3.0, "max_open_seconds": 80.0}
    )
    breaker, waits = opened(clock, config), []
    for _ in range(4):
        wait = breaker.retry_after
        assert wait is not None
        waits.append(wait)
        clock.advance(wait)
        fail(breaker)
    assert waits == [10, 30, 80, 80]
    clock.advance(80)
    succeed(breaker, 3)
    fail(breaker, 3)
    assert breaker.retry_after == 10
    assert config.open_seconds_after(10_000) == 80


@pytest.mark.parametrize(
    ("first", "second"),
    [("closed", "half-open"), ("metrics-only", "open"), ("metrics-only", "half-open")],
)
def test_steps_resilience4j_does_not_allow_raise(clock: Any, first: str, second: str) -> None:
    breaker = CircuitBreaker("orders", clock=clock)
    breaker.transition_to(first)
    with pytest.raises(IllegalTransitionError, match=f"from {first} to {second}"):
        breaker.transition_to(second)
    assert breaker.current_state == first


def test_every_other_step_is_legal(clock: Any) -> None:
    illegal = {("closed", "half-open"), ("metrics-only", "open"), ("metrics-only", "half-open")}
    for first in BreakerState:
        for second in BreakerState:
            breaker = CircuitBreaker("orders", clock=clock)
            if first is BreakerState.HALF_OPEN:
                breaker.open()
            breaker.transition_to(first)
            if (first, second) not in illegal:
                breaker.transition_to(second)
                assert breaker.current_state is second
    with pytest.raises(ValueError, match="ajar"):
        CircuitBreaker("orders").transition_to("ajar")


def test_forced_open_rejects_until_moved(clock: Any) -> None:
    breaker = CircuitBreaker("orders", clock=clock)
    breaker.transition_to("forced-open")
    clock.advance(1e6)
    with pytest.raises(CircuitOpenError, match="until it is moved to another state") as caught:
        breaker.acquire()
    assert caught.value.retry_after is None
    assert breaker.retry_after is None
    assert breaker.state.name == "open"


@pytest.mark.parametrize("state", ["disabled", "metrics-only"])
def test_disabled_and_metrics_only_never_open(clock: Any, state: str) -> None:
    breaker = CircuitBreaker("orders", CONSECUTIVE, clock=clock)
    breaker.transition_to(state)
    fail(breaker, 50)
    assert breaker.current_state == state
    assert breaker.fail_counter == (50 if state == "metrics-only" else 0)
    assert breaker.retry_after == 0


class Diary(pybreaker.CircuitBreakerListener):
    """A pybreaker listener that writes down what it is told, and the state it then sees."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def before_call(self, cb: Any, func: Any, *args: Any, **kwargs: Any) -> None:
        self.lines.append("before")

    def success(self, cb: Any) -> None:
        self.lines.append("success")

    def failure(self, cb: Any, exc: BaseException) -> None:
        self.lines.append(f"failure {type(exc).__name__}")

    def state_change(self, cb: Any, old_state: Any, new_state: Any) -> None:
        self.lines.append(f"{old_state.name} -> {new_state.name}, seen {cb.current_state}")


class Breaking(pybreaker.CircuitBreakerListener):
    def state_change(self, cb: Any, old_state: Any, new_state: Any) -> None:
        raise RuntimeError("listener broken")


def test_listeners_hear_of_it_after_the_fact_and_a_broken_one_harms_nobody(
    clock: Any, caplog: pytest.LogCaptureFixture
) -> None:
    diary = Diary()
    breaker = CircuitBreaker("orders", CONSECUTIVE, clock=clock, listeners=[Breaking(), diary])
    fail(breaker, 3)
    clock.advance(10)
    assert breaker.run(lambda: 1) == 1
    succeed(breaker, 2)
    assert diary.lines == [
        "failure OSError",
        "failure OSError",
        "closed -> open, seen open",
        "failure OSError",
        "open -> half-open, seen half-open",
        "before",
        "success",
        "success",
        "half-open -> closed, seen closed",
        "success",
    ]
    assert caplog.text.count("RuntimeError: listener broken") == 3


def test_a_listener_may_use_the_breaker(clock: Any) -> None:
    class Closing(pybreaker.CircuitBreakerListener):
        def state_change(self, cb: Any, old_state: Any, new_state: Any) -> None:
            if new_state.name == "open":
                cb.close()

    diary = Diary()
    breaker = CircuitBreaker("orders", CONSECUTIVE, clock=clock, listeners=[Closing(), diary])
    breaker.open()
    assert breaker.current_state == "closed"
    assert [line[:14] for line in diary.lines] == ["closed -> open", "open -> closed"]


def test_pybreakers_own_calls_lead_to_the_same_engine(clock: Any) -> None:
    breaker, backend = CircuitBreaker("orders", CONSECUTIVE, clock=clock), Backend()
    assert breaker.call(backend) == "fine"
    backend.error = OSError("down")
    for _ in range(2):
        with pytest.raises(OSError, match="down"):
            breaker.call(backend)
    with pytest.raises(OSError, match="down"), breaker.calling():
        backend()
    assert breaker.current_state == "open"
    assert breaker.state.name == pybreaker.STATE_OPEN
    assert isinstance(breaker, pybreaker.CircuitBreaker)
    breaker.close()
    assert breaker.current_state == pybreaker.STATE_CLOSED


async def test_pybreakers_call_async_awaits_once(clock: Any) -> None:
    breaker, backend = half_opened(clock), Backend()
    backend.error = OSError("down")
    with pytest.raises(OSError, match="down"):
        await breaker.call_async(backend.later)
    assert (backend.calls, breaker.current_state) == (1, "open")


async def test_the_decorator_fits_plain_and_async_functions(clock: Any) -> None:
    breaker = CircuitBreaker("orders", CONSECUTIVE, clock=clock)

    @breaker
    def plain(number: int) -> int:
        """Doc."""
        return number + 1

    @breaker
    async def later(number: int) -> int:
        if number < 0:
            raise ValueError(number)
        return number + 2

    assert (plain(1), await later(number=1)) == (2, 3)
    assert (plain.__name__, plain.__doc__) == ("plain", "Doc.")
    for _ in range(3):
        with pytest.raises(ValueError, match="-1"):
            await later(-1)
    with pytest.raises(CircuitOpenError):
        plain(1)


async def test_a_coroutine_function_in_a_sync_form_is_refused_and_not_counted_as_success(
    clock: Any,
) -> None:
    breaker, backend = CircuitBreaker("orders", CONSECUTIVE, clock=clock), Backend()
    with pytest.raises(TypeError, match="use arun"):
        breaker.run(backend.later)  # type: ignore[unused-coroutine] # the mistake
    assert backend.calls == 0
    with pytest.raises(TypeError, match="generator"):
        breaker(_numbers)


def _numbers() -> Any:
    yield 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"failure_rate_threshold": 1.5}, "failure_rate_threshold"),
        ({"open_seconds": 0}, "open_seconds"),
        ({"open_seconds": float("inf")}, "open_seconds"),
        ({"minimum_calls": 200}, r"minimum_calls \(200\) must be at most sliding_window_size"),
        ({"open_seconds": 400}, r"max_open_seconds \(300.0\) must be at least open_seconds"),
        ({"failure_rate_threshold": None}, "the breaker never opens"),
        ({"permitted_half_open_calls": 0}, "permitted_half_open_calls"),
        ({"speed": 3}, "speed"),
    ],
)
def test_settings_out_of_range_or_at_odds_are_refused(
    settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        BreakerConfig(**settings)


def test_the_repr_names_the_breaker_and_its_state() -> None:
    assert repr(CircuitBreaker("orders")) == "CircuitBreaker('orders', closed)"


def test_a_call_does_not_wait_for_another_call() -> None:
    breaker, both = CircuitBreaker("orders"), threading.Barrier(2, timeout=10)
    threads = [threading.Thread(target=breaker.run, args=(both.wait,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not both.broken


def test_no_outcome_is_lost_between_threads(clock: Any) -> None:
    config = BreakerConfig(consecutive_failures=100_000, sliding_window_size=100_000)
    breaker = CircuitBreaker("orders", config, clock=clock)
    breaker.transition_to("metrics-only")
    in_threads(4, lambda: fail(breaker, 2000))
    assert breaker.fail_counter == 8000


def in_threads(count: int, work: Callable[[], None]) -> None:
    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.mark.parametrize(
    ("errors", "outcome"),
    [
        ([KeyError("ignored")], None),
        ([KeyError("a"), ExceptionGroup("inner", [KeyError("b")])], None),
        ([CircuitOpenError("inner", "open", 1.0), KeyError("a")], None),
        ([DeadlineExceededError("late")], None),
        ([KeyError("ignored"), OSError("down")], 1),
        ([ExceptionGroup("inner", [OSError("down")])], 1),
        ([ValueError("not recorded"), KeyError("ignored")], 0),
    ],
    ids=["ignored", "nested", "refused", "late", "one failed", "nested failure", "not recorded"],
)
def test_a_group_is_judged_by_the_errors_in_it(
    clock: Any, errors: list[Exception], outcome: int | None
) -> None:
    """`outcome` is the number of failures among the calls counted; None if none was counted."""
    config = BreakerConfig(record_exceptions=(OSError,), ignore_exceptions=(KeyError,))
    breaker = CircuitBreaker("b", config, clock=clock)

    def fail() -> None:
        raise ExceptionGroup("several", errors)

    with pytest.raises(ExceptionGroup):
        breaker.run(fail)
    snapshot = breaker.snapshot()
    assert snapshot["calls"] == (0 if outcome is None else 1)
    assert snapshot["failures"] == (outcome or 0)


def test_a_predicate_sees_the_errors_of_a_group(clock: Any) -> None:
    config = BreakerConfig(record_exception=lambda error: "down" in str(error))
    breaker = CircuitBreaker("b", config, clock=clock)
    breaker.note(ExceptionGroup("down", [OSError("up")]))
    breaker.note(ExceptionGroup("several", [OSError("up"), OSError("down")]))
    assert (breaker.snapshot()["calls"], breaker.snapshot()["failures"]) == (2, 1)


async def test_a_task_group_that_a_policy_inside_refused_is_no_failure(clock: Any) -> None:
    breaker = CircuitBreaker("b", BreakerConfig(consecutive_failures=1), clock=clock)

    async def refused() -> None:
        raise CircuitOpenError("inner", "open", 1.0)

    @breaker
    async def call() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(refused())

    with pytest.raises(ExceptionGroup):
        await call()
    assert breaker.current_state == "closed"
