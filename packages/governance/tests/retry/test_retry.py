import asyncio
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from microservice_core import InvalidValueError
from microservice_governance import (
    ExponentialBackoff,
    FixedBackoff,
    Retry,
    RetryBudget,
    RetryConfig,
    deadline,
)

EXACT = ExponentialBackoff(initial_seconds=1, multiplier=2, max_seconds=5)


class Flaky:
    """Fails a number of times, then answers."""

    def __init__(self, failures: int, error: BaseException | None = None) -> None:
        self.failures = failures
        self.error = error or OSError("down")
        self.calls = 0

    def __call__(self, answer: str = "fine") -> str:
        self.calls += 1
        if self.calls <= self.failures:
            raise self.error
        return answer

    async def later(self, answer: str = "fine") -> str:
        await asyncio.sleep(0)
        return self(answer)


class Naps:
    """A sleep that moves a clock and remembers how long."""

    def __init__(self, clock: Any) -> None:
        self.clock = clock
        self.waits: list[float] = []

    def __call__(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.clock.advance(seconds)

    async def later(self, seconds: float) -> None:
        self(seconds)


def config(**changes: Any) -> RetryConfig:
    return RetryConfig(**{"on": (OSError,), "backoff": EXACT, "jitter": "none", **changes})


async def both(retry: Retry, flaky: Flaky) -> tuple[str, str]:
    first = retry.run(flaky)
    flaky.calls = 0
    return first, await retry.arun(flaky.later)


async def test_it_calls_again_until_it_succeeds(clock: Any) -> None:
    naps, flaky = Naps(clock), Flaky(2)
    assert await both(Retry(config(), sleep=naps), flaky) == ("fine", "fine")
    assert flaky.calls == 3
    assert naps.waits == [1, 2, 1, 2]


async def test_the_last_error_comes_out_unchanged(clock: Any) -> None:
    naps, flaky = Naps(clock), Flaky(9)
    retry = Retry(config(attempts=4), sleep=naps)
    with pytest.raises(OSError, match="down") as caught:
        await retry.arun(flaky.later)
    assert caught.value is flaky.error
    assert (flaky.calls, naps.waits) == (4, [1, 2, 4])
    with pytest.raises(OSError, match="down"):
        retry.run(flaky)
    assert flaky.calls == 8


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), asyncio.CancelledError()])
async def test_other_errors_and_cancellation_are_not_retried(
    clock: Any, error: BaseException
) -> None:
    flaky = Flaky(1, error)
    with pytest.raises(type(error)):
        await Retry(config(), sleep=Naps(clock)).arun(flaky.later)
    assert flaky.calls == 1


async def test_cancelled_while_waiting_it_stops(clock: Any) -> None:
    asleep = asyncio.Event()

    async def forever(_: float) -> None:
        asleep.set()
        await asyncio.Event().wait()

    flaky = Flaky(1)
    task = asyncio.create_task(Retry(config(), sleep=forever).arun(flaky.later))
    await asleep.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert flaky.calls == 1


async def test_it_stops_before_the_deadline_instead_of_sleeping_past_it(clock: Any) -> None:
    naps, flaky = Naps(clock), Flaky(9)
    retry = Retry(config(attempts=9), sleep=naps, clock=clock)
    with deadline(4.0, clock=clock), pytest.raises(OSError, match="down"):
        await retry.arun(flaky.later)
    assert (flaky.calls, naps.waits) == (3, [1, 2])


@pytest.mark.parametrize("jitter", ["full", "equal", "none"])
@given(seed=st.integers(), attempts=st.integers(1, 12), start=st.floats(0, 10))
def test_no_wait_exceeds_its_backoff_and_jitter_survives_the_cap(
    jitter: str, seed: int, attempts: int, start: float
) -> None:
    backoff = ExponentialBackoff(initial_seconds=start, max_seconds=5)
    plan = RetryConfig(on=OSError, attempts=attempts, backoff=backoff, jitter=jitter)  # type: ignore[arg-type]
    retry, flaky, waits = Retry(plan, rng=random.Random(seed)), Flaky(99), list[float]()
    retry = Retry(plan, sleep=waits.append, rng=random.Random(seed))
    with pytest.raises(OSError, match="down"):
        retry.run(flaky)
    assert flaky.calls == attempts
    assert len(waits) == attempts - 1
    for number, wait in enumerate(waits, 1):
        cap = min(5.0, start * 2 ** (number - 1))
        low = {"full": 0.0, "equal": cap / 2, "none": cap}[jitter]
        assert low <= wait <= cap
    at_cap = [w for n, w in enumerate(waits, 1) if start * 2 ** (n - 1) >= 5]
    assert jitter == "none" or len(set(at_cap)) == len(at_cap)


def test_a_fixed_backoff_and_one_of_ones_own(clock: Any) -> None:
    naps = Naps(clock)
    Retry(config(backoff=FixedBackoff(0.5)), sleep=naps).run(Flaky(2))
    Retry(config(backoff=lambda attempt: attempt * 10.0), sleep=naps).run(Flaky(2))
    assert naps.waits == [0.5, 0.5, 10, 20]
    assert ExponentialBackoff()(100_000) == 5


def test_retry_after_is_honoured_with_a_little_more_never_less(clock: Any) -> None:
    naps, error = Naps(clock), OSError("busy")
    error.retry_after = 10  # type: ignore[attr-defined]
    for seed in range(20):
        Retry(config(), sleep=naps, rng=random.Random(seed)).run(Flaky(1, error))
    assert all(10 <= wait <= 11 for wait in naps.waits)
    assert len(set(naps.waits)) == 20


def test_an_error_that_asks_for_too_long_a_pause_is_not_retried(clock: Any) -> None:
    error = OSError("busy")
    error.retry_after = 31.0  # type: ignore[attr-defined]
    flaky = Flaky(1, error)
    with pytest.raises(OSError, match="busy"):
        Retry(config(), sleep=Naps(clock)).run(flaky)
    assert flaky.calls == 1


def test_the_shared_budget_ends_a_retry_storm(clock: Any) -> None:
    budget = RetryBudget(0.2, min_per_second=0, clock=clock)
    retry = Retry(config(attempts=10), budget=budget, sleep=lambda _: None)
    calls = 0
    for _ in range(100):
        flaky = Flaky(99)
        with pytest.raises(OSError, match="down"):
            retry.run(flaky)
        calls += flaky.calls
    assert calls == 120


async def test_the_budget_counts_async_calls_too(clock: Any) -> None:
    budget = RetryBudget(0.5, min_per_second=0, clock=clock)
    retry = Retry(config(), budget=budget, sleep=lambda _: None)
    await retry.arun(Flaky(0).later)
    await retry.arun(Flaky(0).later)
    assert budget.available == 1


def test_a_budget_forgets_old_calls_and_keeps_its_reserve(clock: Any) -> None:
    budget = RetryBudget(0.5, min_per_second=0.1, window_seconds=10, clock=clock)
    for _ in range(20):
        budget.record_call()
    assert budget.available == pytest.approx(11)
    clock.advance(11)
    assert budget.available == 1
    assert budget.try_spend()
    assert not budget.try_spend()
    clock.advance(1e6)
    assert budget.try_spend()


@given(
    moves=st.lists(st.sampled_from(["call", "spend", "wait"]), max_size=200),
    ratio=st.sampled_from([0.0, 0.1, 0.2, 1.0]),
)
def test_never_more_retries_than_ratio_and_reserve_allow(moves: list[str], ratio: float) -> None:
    now = [0.0]
    budget = RetryBudget(ratio, min_per_second=0.3, clock=lambda: now[0])
    calls, spent = 0, 0
    for move in moves:
        if move == "call":
            budget.record_call()
            calls += 1
        elif move == "spend":
            spent += budget.try_spend()
        else:
            now[0] += 0.01
    assert spent <= calls * ratio + 3 + 1e-3


async def test_wrong_kinds_of_function_are_refused(clock: Any) -> None:
    flaky = Flaky(0)
    with pytest.raises(TypeError, match="use arun"):
        Retry(config()).run(flaky.later)  # type: ignore[unused-coroutine] # the mistake
    with pytest.raises(TypeError, match="or `sleep`"):
        Retry(config(), sleep=_async_sleep).run(Flaky(1))


async def _async_sleep(_: float) -> None:
    raise AssertionError("never awaited")


async def test_the_decorator_retries(clock: Any) -> None:
    plain, later = Flaky(1), Flaky(1)
    retry = Retry(config(), sleep=Naps(clock))

    @retry
    def call() -> str:
        return plain("plain")

    @retry
    async def acall() -> str:
        return await later.later("later")

    assert (call(), await acall()) == ("plain", "later")


async def test_without_a_sleep_it_really_sleeps_no_time_at_all() -> None:
    retry = Retry(config(backoff=FixedBackoff(0)))
    assert await both(retry, Flaky(1)) == ("fine", "fine")


async def test_an_async_sleep_is_awaited(clock: Any) -> None:
    naps = Naps(clock)
    assert await Retry(config(), sleep=naps.later).arun(Flaky(1).later) == "fine"
    assert naps.waits == [1]


def test_wait_after_serves_those_who_make_the_attempts_themselves() -> None:
    retry = Retry(config(attempts=2))
    assert retry.wait_after(OSError(), 1) == 1
    assert retry.wait_after(OSError(), 2) is None
    assert retry.wait_after(ValueError(), 1) is None


@pytest.mark.parametrize(
    "settings", [{}, {"on": ()}, {"on": OSError, "attempts": 0}, {"on": OSError, "jitter": "some"}]
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        RetryConfig(**settings)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: FixedBackoff(-1), "seconds must be"),
        (lambda: ExponentialBackoff(multiplier=0.5), "multiplier must be a number from 1 to 100"),
        (lambda: ExponentialBackoff(max_seconds=float("nan")), "max_seconds"),
        (lambda: RetryBudget(-1), "ratio must be"),
        (lambda: RetryBudget(min_per_second=-1), "min_per_second must be"),
        (lambda: RetryBudget(window_seconds=0), "window_seconds must be"),
        (lambda: deadline(-1), "seconds must be a number of at least 0"),
    ],
)
def test_arguments_out_of_range_are_refused(build: Any, message: str) -> None:
    with pytest.raises(InvalidValueError, match=message):
        build()


def test_a_group_is_retried_only_if_it_is_named() -> None:
    calls: list[int] = []

    def fail() -> None:
        calls.append(1)
        raise ExceptionGroup("several", [ConnectionError("down")])

    def attempts_on(*kinds: type[Exception]) -> int:
        calls.clear()
        retry = Retry(RetryConfig(on=kinds, attempts=3, backoff=FixedBackoff(0)))
        with pytest.raises(ExceptionGroup):
            retry.run(fail)
        return len(calls)

    assert attempts_on(ConnectionError) == 1
    assert attempts_on(ConnectionError, ExceptionGroup) == 3
