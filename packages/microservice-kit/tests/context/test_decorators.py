import logging
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from microservice_core import (
    InMemoryConfigCenter,
)
from microservice_core.testing.clock import settle
from microservice_governance import (
    BreakerConfig,
    CircuitOpenError,
    DeadlineExceededError,
    LimitConfig,
    RateLimitedError,
    RetryConfig,
)
from microservice_kit import (
    MicroserviceModule,
    circuit_breaker,
    current_module,
    governed,
    rate_limited,
    retry,
)

TWICE = BreakerConfig(failure_rate_threshold=None, consecutive_failures=2)


@pytest.fixture
def name() -> str:
    """Policies live as long as the process: each test has names of its own."""
    return uuid4().hex


@pytest.fixture
async def center() -> AsyncIterator[InMemoryConfigCenter]:
    center = InMemoryConfigCenter({"app.json": "{}"})
    async with MicroserviceModule(
        config_center=center, documents=["app.json"], service_registry="memory"
    ):
        yield center


async def publish(center: InMemoryConfigCenter, content: str) -> None:
    await center.publish_config("app.json", content)
    await settle()


def governing(name: str, settings: str) -> str:
    return f'{{"governance": {{"services": {{"{name}": {settings}}}}}}}'


async def test_functions_that_share_a_name_share_a_breaker(name: str) -> None:
    @circuit_breaker(name, TWICE)
    def charge() -> None:
        raise ZeroDivisionError

    @circuit_breaker(name)
    async def refund() -> str:
        return "refunded"

    assert await refund() == "refunded"
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            charge()
    with pytest.raises(CircuitOpenError, match="is open"):
        await refund()


def test_another_name_is_another_breaker(name: str) -> None:
    assert circuit_breaker(name) is circuit_breaker(name)
    assert circuit_breaker(name) is not circuit_breaker(name + "2")


async def test_the_configuration_changes_a_breaker_in_use_and_gives_it_back(
    center: InMemoryConfigCenter, name: str
) -> None:
    breaker = circuit_breaker(name, TWICE)
    await publish(center, governing(name, '{"circuit_breaker": {"open_seconds": 7}}'))
    assert breaker.config.open_seconds == 7
    await publish(center, "{}")
    assert breaker.config is TWICE


async def test_the_configuration_counts_where_it_came_first(
    center: InMemoryConfigCenter, name: str
) -> None:
    await publish(center, governing(name, '{"rate_limit": {"rate": 1, "per_seconds": 60}}'))
    calls = rate_limited(name, LimitConfig(rate=100))(lambda: "ok")
    assert calls() == "ok"
    with pytest.raises(RateLimitedError):
        calls()


async def test_retries_follow_the_configuration(center: InMemoryConfigCenter, name: str) -> None:
    tries = 0

    @retry(name, RetryConfig(on=(OSError,), attempts=1))
    async def flaky() -> int:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise OSError
        return tries

    with pytest.raises(OSError):
        await flaky()
    settings = (
        '{"retry": {"on": ["OSError"], "attempts": 3, "backoff": {"kind": "fixed", "seconds": 0}}}'
    )
    await publish(center, governing(name, settings))
    tries = 0
    assert await flaky() == 3


async def test_everything_a_name_says_is_one_decorator(
    center: InMemoryConfigCenter, name: str
) -> None:
    @governed(name)
    async def slow() -> str:
        await settle()
        return "done"

    assert await slow() == "done"
    await publish(center, governing(name, '{"timeout": {"seconds": 0.000001}}'))
    with pytest.raises((DeadlineExceededError, TimeoutError)):
        await slow()


async def test_wrong_settings_change_nothing_and_say_where(
    center: InMemoryConfigCenter, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    breaker = circuit_breaker(name, TWICE)
    with caplog.at_level(logging.ERROR, logger="microservice_kit.context.decorators"):
        await publish(center, governing(name, '{"circuit_breaker": {"open_seconds": -1}}'))
    assert "open_seconds" in caplog.text
    assert "keeping the previous policies" in caplog.text
    assert breaker.config is TWICE
    problem = str(current_module().config.problem)
    assert "configuration 'governance' is invalid" in problem
    assert "open_seconds" in problem
    await publish(center, governing(name, '{"circuit_breaker": {"open_seconds": 1}}'))
    assert current_module().config.problem is None
    await publish(center, '{"governance": {"services": 1, "mistake": 2}}')
    assert "mistake" in str(current_module().config.problem)
