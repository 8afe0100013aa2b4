"""What is repeated and when: results, single waits, calls that may not be made twice, blocks."""

import asyncio
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from microservice_core import InvalidValueError
from microservice_governance import (
    CallRetried,
    DecorrelatedBackoff,
    FixedBackoff,
    PolicyEvent,
    Retry,
    RetryBudget,
    RetryConfig,
    deadline,
)


def run_block(policy: Retry, script: "Script") -> None:
    for attempt in policy.attempts():
        with attempt:
            script()


class Script:
    """Gives one outcome after the other; an exception is raised."""

    def __init__(self, *outcomes: object) -> None:
        self.outcomes = list(outcomes)
        self.made = 0

    def __call__(self, *args: object, **kwargs: object) -> object:
        self.made += 1
        outcome = self.outcomes[self.made - 1]
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    async def later(self, *args: object, **kwargs: object) -> object:
        await asyncio.sleep(0)
        return self(*args, **kwargs)


DOWN = OSError("down")


def retry(naps: list[float] | None = None, **settings: Any) -> Retry:
    given: dict[str, Any] = {"on": (OSError,), "backoff": FixedBackoff(1), "jitter": "none"}
    slept: list[float] = [] if naps is None else naps
    return Retry(RetryConfig(**{**given, **settings}), sleep=slept.append)


async def every_form(policy: Retry, *outcomes: object) -> list[tuple[object, int]]:
    """What each form of call gives, and how many attempts it made."""
    seen: list[tuple[object, int]] = []
    for form in ("run", "decorated", "arun", "async decorated"):
        script = Script(*outcomes)
        try:
            if form == "run":
                result = policy.run(script)
            elif form == "decorated":
                result = policy(script.__call__)()
            elif form == "arun":
                result = await policy.arun(script.later)
            else:
                result = await policy(script.later)()
        except Exception as error:  # noqa: BLE001 - whatever it is
            result = error
        seen.append((result, script.made))
    return seen


async def test_a_result_may_be_retried_and_the_last_one_is_returned() -> None:
    policy = retry(attempts=3, retry_result=lambda result: result == 503)
    assert await every_form(policy, 503, 200) == [(200, 2)] * 4
    assert await every_form(policy, 503, 503, 503) == [(503, 3)] * 4
    assert await every_form(policy, DOWN, 503, 200) == [(200, 3)] * 4
    assert await every_form(policy, 503, DOWN, DOWN) == [(DOWN, 3)] * 4
    assert await every_form(policy, 503, ValueError, 200) == [(ValueError, 2)] * 4


async def test_what_may_not_be_made_twice_is_repeated_only_if_it_never_was_sent() -> None:
    policy = retry(idempotent=False, retry_result=lambda result: result == 503)
    assert await every_form(policy, DOWN, 200) == [(DOWN, 1)] * 4
    assert await every_form(policy, 503, 200) == [(503, 1)] * 4
    assert await every_form(policy, ConnectionRefusedError(), 200) == [(200, 2)] * 4


def test_the_arguments_may_say_whether_it_may_be_made_twice() -> None:
    def safe(method: str, **_: object) -> bool:
        return method == "GET"

    script = Script(DOWN, "fine", DOWN)
    guarded = retry(idempotent=safe)(script.__call__)
    assert guarded("GET", path="/") == "fine"
    with pytest.raises(OSError, match="down"):
        guarded("POST", path="/")


def test_exceptions_may_have_waits_of_their_own() -> None:
    waits: list[float] = []
    slow_down = {ConnectionResetError: FixedBackoff(5), ConnectionError: FixedBackoff(3)}
    policy = retry(waits, attempts=4, waits=slow_down)
    script = Script(ConnectionResetError(), BrokenPipeError(), OSError(), "fine")
    assert policy.run(script) == "fine"
    assert waits == [5, 3, 1]


@given(seed=st.integers(), base=st.floats(0.01, 2), factor=st.floats(1, 20))
def test_decorrelated_waits_grow_from_the_last_one_and_stay_spread_at_the_cap(
    seed: int, base: float, factor: float
) -> None:
    cap = base * factor
    backoff = DecorrelatedBackoff(base, cap)
    waits: list[float] = []
    config = RetryConfig(on=(OSError,), attempts=30, backoff=backoff, jitter="none")
    policy = Retry(config, sleep=waits.append, rng=random.Random(seed))
    with pytest.raises(OSError, match="down"):
        policy.run(Script(*[DOWN] * 30))
    before = base
    for wait in waits:
        assert base <= wait <= min(cap, 3 * before) * (1 + 1e-9)
        before = wait
    assert factor < 1.5 or len(set(waits)) == len(waits)
    assert backoff(1) == min(cap, 3 * base)
    assert backoff(10_000) == cap


def test_a_decorrelated_backoff_out_of_range_is_refused() -> None:
    with pytest.raises(InvalidValueError, match="max_seconds must be at least"):
        DecorrelatedBackoff(2, 1)


def test_a_block_is_tried_until_it_succeeds() -> None:
    waits: list[float] = []
    script, seen = Script(DOWN, DOWN, "fine"), []
    for attempt in retry(waits).attempts():
        with attempt:
            seen.append(attempt.number)
            assert script() == "fine"
    assert (seen, waits) == ([1, 2, 3], [1, 1])


async def test_an_async_block_is_tried_until_it_succeeds() -> None:
    waits: list[float] = []
    script = Script(DOWN, DOWN, "fine")
    results: list[object] = []
    async for attempt in retry(waits).attempts():
        with attempt:
            results.append(await script.later())
    assert (results, waits) == (["fine"], [1, 1])


def test_a_block_that_never_succeeds_raises_its_last_error() -> None:
    script = Script(DOWN, DOWN, OSError("last"))
    with pytest.raises(OSError, match="last"):
        run_block(retry(), script)
    assert script.made == 3


@pytest.mark.parametrize("error", [ValueError("no"), asyncio.CancelledError(), KeyboardInterrupt()])
def test_a_block_lets_other_errors_and_cancellation_out(error: BaseException) -> None:
    script = Script(error)
    with pytest.raises(type(error)):
        run_block(retry(), script)
    assert script.made == 1


def test_a_block_may_not_be_repeated_when_the_call_may_not() -> None:
    script = Script(DOWN, "fine")
    with pytest.raises(OSError, match="down"):
        run_block(retry(idempotent=False), script)
    assert script.made == 1


def test_blocks_and_calls_share_the_budget(clock: Any) -> None:
    budget = RetryBudget(0.5, min_per_second=0, clock=clock)
    config = RetryConfig(on=(OSError,), backoff=FixedBackoff(0))
    policy = Retry(config, budget=budget, sleep=lambda _: None)

    def tries() -> int:
        made = 0
        try:
            for attempt in policy.attempts():
                made = attempt.number
                with attempt:
                    raise DOWN
        except OSError:
            return made
        pytest.fail("it succeeded")

    assert [tries(), tries(), tries(), tries()] == [1, 2, 1, 2]
    assert policy.snapshot()["budget"] == 0


def test_a_block_stops_before_the_deadline(clock: Any) -> None:
    config = RetryConfig(on=(OSError,), backoff=FixedBackoff(3), jitter="none")
    policy = Retry(config, sleep=clock.advance, clock=clock)
    script = Script(DOWN, "fine")
    with deadline(2, clock=clock), pytest.raises(OSError, match="down"):
        run_block(policy, script)
    assert script.made == 1


def test_what_is_retried_is_told() -> None:
    policy = retry(retry_result=lambda result: result == 503)
    events: list[PolicyEvent] = []
    policy.subscribe(events.append)
    assert policy.run(Script(DOWN, 503, 200)) == 200
    assert events == [
        CallRetried("retry", "retry", 1, 1, DOWN),
        CallRetried("retry", "retry", 2, 1, None),
    ]


def test_a_listener_that_fails_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    policy = retry()
    heard: list[PolicyEvent] = []

    def broken(event: PolicyEvent) -> None:
        raise RuntimeError("listener")

    policy.subscribe(broken)
    policy.subscribe(heard.append)
    assert policy.run(Script(DOWN, 200)) == 200
    assert len(heard) == 1
    assert "a listener of retry 'retry' failed" in caplog.text


async def test_an_async_sleep_is_refused_for_plain_functions_at_decoration() -> None:
    naps: list[float] = []

    async def nap(seconds: float) -> None:
        naps.append(seconds)

    policy = Retry(RetryConfig(on=(OSError,), backoff=FixedBackoff(2), jitter="none"), sleep=nap)
    with pytest.raises(TypeError, match="has an async sleep"):
        policy(lambda: None)
    assert await policy(Script(DOWN, 1).later)() == 1
    assert naps == [2]


def test_it_is_reconfigured_for_calls_to_come() -> None:
    policy = retry()
    guarded = policy(Script(DOWN, DOWN, 1).__call__)
    policy.reconfigure(RetryConfig(on=(OSError,), attempts=1))
    with pytest.raises(OSError, match="down"):
        guarded()
    assert repr(policy) == "Retry('retry', 1 attempts on OSError)"


@pytest.mark.parametrize(
    ("field", "settings"),
    [
        ("waits has ValueError, which is not retried", {"waits": {ValueError: FixedBackoff(1)}}),
        ("attempts", {"attempts": 0}),
        ("max_retry_after_seconds", {"max_retry_after_seconds": -1}),
        ("jitter", {"jitter": "some"}),
        ("attempt", {"attempt": 3}),
    ],
)
def test_bad_settings_are_refused(field: str, settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=field):
        RetryConfig(on=(OSError,), **settings)


async def test_a_budget_counts_decorated_calls_and_a_coroutine_is_no_result(clock: Any) -> None:
    budget = RetryBudget(0.5, min_per_second=0, clock=clock)
    policy = Retry(RetryConfig(on=(OSError,)), budget=budget, sleep=lambda _: None)
    policy(Script(1).__call__)()
    await policy(Script(1).later)()
    assert budget.available == 1
    with pytest.raises(TypeError, match="arun"):
        policy(lambda: asyncio.sleep(0))()  # type: ignore[unused-coroutine]
    with pytest.raises(TypeError, match="arun"):
        policy.run(asyncio.sleep, 0)  # type: ignore[unused-coroutine]
