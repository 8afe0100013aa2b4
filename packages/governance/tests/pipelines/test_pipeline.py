import asyncio
import inspect
from typing import Any

import pytest

from microservice_governance import (
    BreakerConfig,
    Bulkhead,
    CallRetried,
    CircuitBreaker,
    Fallback,
    FixedBackoff,
    Hedge,
    LimitConfig,
    Pipeline,
    PipelineOrderError,
    Policy,
    PolicyEvent,
    RateLimiter,
    Retry,
    RetryConfig,
    Timeout,
    pipeline,
)


class Traced(Policy):
    """Writes down when a call goes in and out."""

    kind = "traced"

    def __init__(self, name: str, log: list[str]) -> None:
        self.name = name
        self.log = log

    def run(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        self.log.append(f"{self.name} in")
        try:
            return fn(*args, **kwargs)
        finally:
            self.log.append(f"{self.name} out")

    async def arun(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        self.log.append(f"{self.name} in")
        try:
            return await fn(*args, **kwargs)
        finally:
            self.log.append(f"{self.name} out")


def add(one: int, *, two: int) -> int:
    return one + two


async def add_later(one: int, *, two: int) -> int:
    await asyncio.sleep(0)
    return one + two


async def test_the_left_one_is_outermost_in_every_form() -> None:
    log: list[str] = []
    guarded = pipeline(Traced("a", log), Traced("b", log), Traced("c", log))
    expected = ["a in", "b in", "c in", "c out", "b out", "a out"]
    assert guarded.run(add, 1, two=2) == 3
    assert log == expected
    assert await guarded.arun(add_later, 1, two=2) == 3
    assert log == expected * 2
    assert guarded(add)(1, two=2) == 3
    assert await guarded(add_later)(1, two=2) == 3
    assert log == expected * 4


async def test_an_empty_one_only_calls() -> None:
    assert pipeline().run(add, 1, two=2) == 3
    assert await pipeline().arun(add_later, 1, two=2) == 3
    assert await pipeline()(add_later)(1, two=2) == 3
    assert repr(pipeline(Timeout(1), Bulkhead(2))) == (
        "pipeline(Timeout(1, name='timeout'), Bulkhead('bulkhead', 0 of 2, 0 waiting))"
    )


def test_a_bar_puts_policies_and_pipelines_together() -> None:
    log: list[str] = []
    one, two, three = (Traced(name, log) for name in "abc")
    combined = one | two | three
    assert isinstance(combined, Pipeline)
    assert combined.policies == (one, two, three)
    assert pipeline(one, two | three).policies == (one, two, three)


async def test_what_is_disabled_vanishes_and_comes_back() -> None:
    log: list[str] = []
    inner = Traced("b", log)
    guarded = pipeline(Traced("a", log), inner)
    plain, later = guarded(add), guarded(add_later)
    inner.enabled = False
    guarded.refresh()
    plain(1, two=2)
    await later(1, two=2)
    guarded.run(add, 1, two=2)
    await guarded.arun(add_later, 1, two=2)
    assert log == ["a in", "a out"] * 4
    inner.enabled = True
    guarded.refresh()
    log.clear()
    plain(1, two=2)
    assert log == ["a in", "b in", "b out", "a out"]


def test_the_functions_keep_their_names() -> None:
    guarded = pipeline(Timeout(1))
    assert guarded(add).__name__ == "add"
    assert inspect.iscoroutinefunction(guarded(add_later))


@pytest.mark.parametrize("attempts", [1, 3])
async def test_the_recommended_order_works_as_a_whole(attempts: int) -> None:
    retry = Retry(RetryConfig(on=(OSError,), attempts=attempts, backoff=FixedBackoff(0)))
    guarded = pipeline(
        Fallback("none", on=OSError),
        Timeout(10),
        Bulkhead(5),
        retry,
        CircuitBreaker("orders", BreakerConfig(consecutive_failures=9)),
        RateLimiter(LimitConfig(rate=100)),
        Timeout(2),
    )
    events: list[PolicyEvent] = []
    unsubscribe = guarded.subscribe(events.append)
    made = 0

    @guarded
    async def flaky() -> str:
        nonlocal made
        made += 1
        if made < 3:
            raise OSError("down")
        return "fine"

    assert await flaky() == ("fine" if attempts == 3 else "none")
    assert made == attempts
    assert sum(isinstance(event, CallRetried) for event in events) == attempts - 1
    unsubscribe()
    seen = len(events)
    await flaky()
    assert len(events) == seen
    snapshot: Any = guarded.snapshot()
    assert [part["policy"] for part in snapshot["policies"]] == [
        "fallback",
        "timeout",
        "bulkhead",
        "retry",
        "circuit_breaker",
        "rate_limiter",
        "timeout",
    ]


def retry(name: str = "retry") -> Retry:
    return Retry(RetryConfig(on=(OSError,)), name=name)


def limiter() -> RateLimiter:
    return RateLimiter(LimitConfig(rate=1))


BREAKER = CircuitBreaker("orders")

WRONG = [
    ([retry(), Fallback(1, on=OSError)], "fallback 'fallback' may not be inside retry"),
    ([retry(), Bulkhead(1)], "queue again for a permit"),
    ([limiter(), retry()], "a quota counts attempts"),
    ([limiter(), BREAKER], "would use up quota"),
    ([retry("a"), retry("b")], "would multiply"),
    ([Hedge(delay=1), retry()], "retried on its own"),
    ([Timeout(2), Timeout(2)], "would never end a call"),
    ([Timeout(2), BREAKER], "a backend that hangs would never open the circuit"),
    ([BREAKER, BREAKER], "is there twice"),
]


@pytest.mark.parametrize(("policies", "why"), WRONG, ids=[why for _, why in WRONG])
def test_an_order_that_cannot_work_is_refused_with_the_reason(
    policies: list[Policy], why: str
) -> None:
    with pytest.raises(PipelineOrderError, match=why):
        pipeline(*policies)


def test_a_breaker_of_the_service_may_stand_outside_the_retry() -> None:
    assert isinstance(pipeline(BREAKER, retry(), CircuitBreaker("instance"), Timeout(1)), Pipeline)
    assert isinstance(pipeline(Timeout(5), BREAKER, Timeout(1)), Pipeline)


def test_a_policy_that_cannot_guard_a_plain_function_says_so_at_decoration() -> None:
    guarded = pipeline(retry(), Hedge(delay=1))
    with pytest.raises(TypeError, match="make it async"):
        guarded(add)


@pytest.mark.parametrize("kind", ["generator", "async generator"])
def test_generator_functions_are_refused(kind: str) -> None:
    def generate() -> Any:
        yield 1

    async def generate_later() -> Any:
        yield 1

    with pytest.raises(TypeError, match="whose body runs after the call"):
        pipeline()(generate if kind == "generator" else generate_later)
    assert [*generate()] == [1]


async def test_an_object_with_an_async_call_is_awaited() -> None:
    class Caller:
        async def __call__(self, one: int) -> int:
            return one

    assert await Timeout(1)(Caller())(7) == 7
