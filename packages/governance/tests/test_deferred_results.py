"""What a plain function returns before its work is done is no outcome, under every policy."""

import asyncio
import functools
from collections.abc import Awaitable, Callable, Generator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest

from microservice_core import ServiceInstance
from microservice_governance import (
    AdaptiveLimit,
    BreakerConfig,
    Bulkhead,
    CircuitBreaker,
    Fallback,
    FaultInjection,
    FaultInjectionConfig,
    FixedBackoff,
    KeyedCircuitBreakers,
    KeyedLimit,
    KeyedRateLimiter,
    LimitConfig,
    LoadShedding,
    OutcomeReport,
    Policy,
    RateLimiter,
    Retry,
    RetryConfig,
    Timeout,
    deferred_results,
    pipeline,
)

PLENTY = LimitConfig(rate=1000)
POLICIES: dict[str, Callable[[], Policy]] = {
    "breaker": lambda: CircuitBreaker("b"),
    "breaker that judges results": lambda: CircuitBreaker(
        "b", BreakerConfig(record_result=lambda result: result == "bad")
    ),
    "retry": lambda: Retry(RetryConfig(on=(OSError,), backoff=FixedBackoff(0))),
    "bulkhead": lambda: Bulkhead(3),
    "adaptive limit": lambda: AdaptiveLimit(dropped_on=Exception),
    "limiter": lambda: RateLimiter(PLENTY),
    "keyed limiter": lambda: KeyedLimit(KeyedRateLimiter(PLENTY), key="all"),
    "timeout": lambda: Timeout(5),
    "fallback": lambda: Fallback(0, on=OSError),
    "shedding": lambda: LoadShedding(lambda: 0),
    "faults": lambda: FaultInjection(FaultInjectionConfig()),
    "report": lambda: OutcomeReport(
        [KeyedCircuitBreakers()], endpoint=lambda: ServiceInstance("a", "10.0.0.1", 80)
    ),
    "pipeline": lambda: pipeline(CircuitBreaker("p"), Timeout(5)),
}


class Call:
    """As grpc.aio's: an awaitable that is no coroutine."""

    def __await__(self) -> Generator[None, None, None]:
        yield


def generate() -> Iterator[int]:
    yield 1


async def generate_later() -> Any:
    yield 1


class Generating:
    def __call__(self) -> Iterator[int]:
        yield 1


class GeneratingLater:
    async def __call__(self) -> Any:
        yield 1


@contextmanager
def entered() -> Iterator[int]:
    yield 1


@asynccontextmanager
async def entered_later() -> Any:
    yield 1


DEFERRED: dict[str, Callable[[], Any]] = {
    "future": lambda: asyncio.get_running_loop().create_future(),
    "call": Call,
    "coroutine": lambda: asyncio.sleep(0),
    "generator": lambda: generate(),  # noqa: PLW0108 - a plain function
    "async generator": lambda: generate_later(),  # noqa: PLW0108 - a plain function
    "context manager": lambda: entered(),  # noqa: PLW0108 - a plain function
    "async context manager": lambda: entered_later(),  # noqa: PLW0108 - a plain function
}


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
@pytest.mark.parametrize("fn", DEFERRED.values(), ids=DEFERRED)
async def test_a_result_that_is_still_to_come_is_refused(
    policy: Callable[[], Policy], fn: Callable[[], Any]
) -> None:
    with pytest.raises(TypeError, match=r"use arun\(\)"):
        policy().run(fn)
    with pytest.raises(TypeError, match=r"use arun\(\)"):
        policy()(fn)()


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
@pytest.mark.parametrize(
    "fn",
    [
        generate,
        generate_later,
        Generating(),
        GeneratingLater(),
        entered,
        entered_later,
        functools.partial(generate),
    ],
    ids=["generator", "async", "object", "async object", "context", "async context", "partial"],
)
def test_a_function_whose_body_runs_later_is_refused_when_it_is_decorated(
    policy: Callable[[], Policy], fn: Callable[[], Any]
) -> None:
    with pytest.raises(TypeError, match="body runs after the call"):
        policy()(fn)


async def test_a_breaker_counts_it_as_no_outcome_and_frees_a_trial_call() -> None:
    breaker = CircuitBreaker(
        "b", BreakerConfig(consecutive_failures=1, permitted_half_open_calls=1)
    )
    with pytest.raises(TypeError):
        breaker.run(Call)  # type: ignore[unused-awaitable]
    assert breaker.snapshot()["calls"] == 0
    breaker.open()
    breaker.half_open()
    for _ in range(3):
        with pytest.raises(TypeError):
            breaker.run(Call)  # type: ignore[unused-awaitable]
    assert breaker.run(str, 7) == "7"
    assert breaker.current_state == "closed"


async def test_an_adaptive_limit_learns_nothing_from_it() -> None:
    limit = AdaptiveLimit(dropped_on=Exception)
    before = limit.snapshot()
    with pytest.raises(TypeError):
        limit.run(Call)  # type: ignore[unused-awaitable]
    assert limit.snapshot() == before


async def test_awaitables_of_every_kind_are_awaited_by_arun() -> None:
    class Answer:
        def __await__(self) -> Generator[Any, None, int]:
            yield from asyncio.sleep(0).__await__()
            return 7

    def fetch() -> Awaitable[int]:
        return Answer()

    assert await CircuitBreaker("b").arun(fetch) == 7


def test_results_of_any_other_kind_pass() -> None:
    class Response:
        pass

    breaker, response = CircuitBreaker("b"), Response()
    for _ in range(3):
        assert breaker.run(lambda: response) is response
        assert breaker.run(lambda: Response) is Response
    assert breaker.snapshot()["calls"] == 6


def test_what_is_known_of_types_is_bounded() -> None:
    known = set(deferred_results.FINAL_TYPES)
    try:
        for number in range(3000):
            assert not deferred_results.is_deferred(type(f"Made{number}", (), {})())
        assert len(deferred_results.FINAL_TYPES) == 1024
    finally:
        deferred_results.FINAL_TYPES.intersection_update(known)


def test_static_and_class_methods_stay_what_they_are() -> None:
    breaker = CircuitBreaker("b")

    class Client:
        name = "orders"

        @breaker
        @staticmethod
        def add(one: int, other: int) -> int:
            return one + other

        @breaker
        @classmethod
        def read(cls, key: str) -> str:
            return f"{cls.name} {key}"

    methods: Any = Client
    assert methods.add(1, 2) == methods().add(1, 2) == 3
    assert methods.read("7") == methods().read("7") == "orders 7"
    assert breaker.snapshot()["calls"] == 4
