import asyncio
import json
import pickle
from typing import Any, cast

import pytest
from pydantic import ValidationError

from microservice_core import InvalidValueError
from microservice_governance import (
    AdaptiveLimit,
    Bulkhead,
    CallRejected,
    CircuitBreaker,
    CircuitOpenError,
    FaultInjection,
    Hedge,
    InvalidSettingsError,
    LimitReachedError,
    PipelineConfig,
    PolicyEvent,
    RateLimitedError,
    RateLimiter,
    Registry,
    Retry,
    StateChanged,
    Timeout,
    build_pipeline,
    database_defaults,
    http_client_defaults,
    message_consumer_defaults,
    testing,
)

EVERYTHING: dict[str, Any] = {
    "timeout": {"seconds": 10},
    "bulkhead": {"limit": 5, "queue": 5},
    "adaptive_limit": {"algorithm": "aimd", "initial": 10},
    "retry": {
        "on": ["ConnectionError", "TimeoutError"],
        "attempts": 2,
        "backoff": {"kind": "exponential", "initial_seconds": 0.01},
    },
    "retry_budget": {"ratio": 0.5},
    "hedge": {"delay_percentile": 0.95},
    "circuit_breaker": {"consecutive_failures": 2, "record_exceptions": ["OSError"]},
    "rate_limit": {"rate": 100},
    "attempt_timeout": {"seconds": 2},
    "fault_injection": {"error_rate": 0.0},
}


class DownError(Exception):
    pass


async def fails(error: Exception) -> None:
    raise error


def kinds(pipeline: Any) -> list[type]:
    return [type(policy) for policy in pipeline.policies if policy.enabled]


async def test_settings_name_every_policy_in_the_recommended_order() -> None:
    registry = Registry({"services": {"orders": dict(reversed(EVERYTHING.items()))}})
    pipeline = registry.get("orders")
    assert kinds(pipeline) == [
        Timeout,
        Bulkhead,
        AdaptiveLimit,
        Retry,
        Hedge,
        CircuitBreaker,
        RateLimiter,
        Timeout,
        FaultInjection,
    ]
    assert registry.get("orders") is pipeline
    assert await pipeline(asyncio.sleep)(0, "fine") == "fine"
    assert json.loads(json.dumps(registry.snapshot()))["orders"]["name"] == "orders"


def test_a_service_has_what_its_base_has_and_differs_where_it_says_so() -> None:
    registry = Registry(
        {
            "bases": {"http": {"timeout": {"seconds": 3}, "attempt_timeout": {"seconds": 1}}},
            "services": {
                "payments": {
                    "base": "http",
                    "circuit_breaker": {"open_seconds": 5},
                    "retry": {"enabled": False},
                    "bulkhead": None,
                }
            },
        }
    )
    config = registry.get("payments").config
    assert config.timeout is not None
    assert config.circuit_breaker is not None
    assert config.retry is not None
    assert (config.timeout.seconds, config.circuit_breaker.open_seconds) == (3, 5)
    assert (config.bulkhead, config.retry.attempts) == (None, 3)
    assert kinds(registry.get("payments")) == [Timeout, CircuitBreaker, Timeout]
    assert kinds(registry.get("other", base="database")) == [Bulkhead, CircuitBreaker, Timeout]
    assert kinds(registry.get("plain")) == []


async def test_pipelines_in_use_follow_an_update_and_keep_what_they_know() -> None:
    registry = Registry({"services": {"orders": {"circuit_breaker": {"consecutive_failures": 2}}}})
    pipeline = registry.get("orders")
    guarded = pipeline(fails)
    for _ in range(2):
        with pytest.raises(OSError, match="down"):
            await guarded(OSError("down"))
    with pytest.raises(CircuitOpenError):
        await guarded(OSError("down"))
    registry.update(
        {
            "services": {
                "orders": {
                    "circuit_breaker": {"consecutive_failures": 9},
                    "rate_limit": {"rate": 1, "per_seconds": 60},
                }
            }
        }
    )
    with pytest.raises(CircuitOpenError):
        await guarded(OSError("down"))
    registry.update(
        {
            "services": {
                "orders": {
                    "circuit_breaker": {"enabled": False},
                    "rate_limit": {"rate": 1, "per_seconds": 60},
                }
            }
        }
    )
    with pytest.raises(OSError, match="down"):
        await guarded(OSError("down"))
    with pytest.raises(RateLimitedError):
        await guarded(OSError("down"))
    registry.update({})
    with pytest.raises(OSError, match="down"):
        await guarded(OSError("down"))
    assert kinds(pipeline) == []


def test_every_policy_is_changed_in_place() -> None:
    registry = Registry({"services": {"orders": EVERYTHING}})
    pipeline = registry.get("orders")
    before = dict(zip(PipelineConfig.ORDER, pipeline.policies, strict=True))
    changed = {
        **EVERYTHING,
        "timeout": {"seconds": 20},
        "bulkhead": {"limit": 7},
        "adaptive_limit": {"algorithm": "vegas"},
        "retry": {"on": "OSError", "attempts": 5, "backoff": {"kind": "fixed", "seconds": 1}},
        "retry_budget": {"ratio": 0.1},
        "hedge": {"delay_seconds": 0.5, "attempts": 3},
        "circuit_breaker": {"consecutive_failures": 7},
        "rate_limit": {"rate": 7},
        "attempt_timeout": {"seconds": 7},
        "fault_injection": {"error_rate": 1.0},
    }
    registry.update({"services": {"orders": changed}})
    after: dict[str, Any] = dict(zip(PipelineConfig.ORDER, pipeline.policies, strict=True))
    assert after == before
    assert after["adaptive_limit"].algorithm == "vegas"
    assert (after["timeout"].seconds, after["bulkhead"].limit) == (20, 7)
    assert (after["retry"].config.attempts, after["retry"].budget.ratio) == (5, 0.1)
    assert (after["hedge"].delay_seconds, after["circuit_breaker"].config.consecutive_failures) == (
        0.5,
        7,
    )
    assert (after["rate_limit"].config.rate, after["attempt_timeout"].seconds) == (7, 7)
    assert after["fault_injection"].config.error_rate == 1


async def test_events_of_all_services_come_to_one_listener() -> None:
    registry = Registry()
    early = registry.get("early", base="database")
    events: list[PolicyEvent] = []
    unsubscribe = registry.subscribe(events.append)
    registry.update({"services": {"early": {"circuit_breaker": {"consecutive_failures": 1}}}})
    late = registry.get("late", base="database")
    with pytest.raises(OSError, match="down"):
        await early.arun(fails, OSError("down"))
    with pytest.raises(CircuitOpenError):
        await early.arun(fails, OSError("down"))
    unsubscribe()
    breaker = late.policies[1]
    assert isinstance(breaker, CircuitBreaker)
    breaker.open()
    assert [type(event) for event in events] == [StateChanged, CallRejected]
    assert {event.name for event in events} == {"early"}


def test_exceptions_are_named_and_nothing_is_imported() -> None:
    settings = {"services": {"orders": {"retry": {"on": ["mine"]}}}}
    registry = Registry(settings, errors={"mine": DownError})
    assert registry.get("orders").config.retry.on == (DownError,)  # type: ignore[union-attr]
    with pytest.raises(InvalidSettingsError, match=r"unknown exception 'mine'"):
        Registry(settings)
    with pytest.raises(InvalidSettingsError, match=r"unknown exception 'os\.system'"):
        Registry({"services": {"orders": {"retry": {"on": "os.system"}}}})


WRONG: list[tuple[Any, str]] = [
    ({"service": {}}, "service: is neither 'bases' nor 'services'"),
    ({"services": []}, "services: must be a mapping, not list"),
    ({"services": {"a": 3}}, r"services\.a: must be a mapping, not int"),
    ({"services": {"a": {"base": "htp"}}}, r"services\.a\.base: 'htp' is not one of consumer"),
    (
        {"services": {"a": {"retry": {"on": "OSError", "attempts": 0}}}},
        r"services\.a\.retry\.attempts: .* greater than or equal to 1, not 0",
    ),
    ({"services": {"a": {"retries": {}}}}, r"services\.a\.retries: Extra inputs"),
    ({"bases": {"a": {"timeout": {"seconds": -1}}}}, r"bases\.a\.timeout\.seconds"),
    (
        {"services": {"a": {"base": "http", "timeout": {"seconds": 1}}}},
        r"attempt_timeout \(5 s\) must be below timeout \(1 s\)",
    ),
    (
        {"services": {"a": {"base": "http", "attempt_timeout": {"enabled": False}}}},
        "circuit_breaker needs attempt_timeout inside timeout",
    ),
    ({"services": {"a": {"retry_budget": {}}}}, "retry_budget without retry"),
    ({"services": {"a": {"timeout": {"seconds": 1, "enabled": "no"}}}}, "must be true or false"),
    ({"services": {"a": {"hedge": {}}}}, "set exactly one of delay_seconds and delay_percentile"),
    ({"services": {"a": {"adaptive_limit": {"min_limit": 30}}}}, r"initial \(20\) must be from"),
    ({"services": {"a": {"retry": {"on": []}}}}, r"services\.a\.retry\.on"),
    ({"services": {"a": {"retry": {"on": 7}}}}, r"services\.a\.retry\.on"),
    (
        {"services": {"a": {"retry": {"on": "OSError", "backoff": {"kind": "slow"}}}}},
        r"retry\.backoff: .*kind must be one of fixed, exponential, decorrelated",
    ),
    (
        {"services": {"a": {"retry": {"on": "OSError", "backoff": {"kind": "fixed", "s": 1}}}}},
        r"retry\.backoff: .*unexpected keyword argument 's'",
    ),
]


@pytest.mark.parametrize(("settings", "message"), WRONG)
def test_settings_that_break_a_rule_change_nothing(settings: Any, message: str) -> None:
    registry = Registry({"services": {"orders": EVERYTHING}})
    before = registry.get("orders").config
    with pytest.raises(InvalidSettingsError, match=message) as caught:
        registry.update(settings)
    assert registry.get("orders").config is before
    assert "correct it" in str(caught.value)
    assert caught.value.location


def test_the_error_survives_pickling() -> None:
    error = pickle.loads(pickle.dumps(InvalidSettingsError("services.a", "must be a mapping")))  # noqa: S301 - our own bytes
    assert (error.location, error.rule) == ("services.a", "must be a mapping")


def test_a_secret_in_the_wrong_place_is_not_repeated() -> None:
    with pytest.raises(InvalidSettingsError) as caught:
        Registry({"services": {"orders": {"timeout": "hunter2"}}})
    assert "hunter2" not in str(caught.value)


def test_a_base_somebody_relies_on_may_not_vanish() -> None:
    registry = Registry({"bases": {"mine": {"rate_limit": {"rate": 1}}}})
    pipeline = registry.get("orders", base="mine")
    with pytest.raises(InvalidValueError, match="base must be one of"):
        registry.update({})
    assert kinds(pipeline) == [RateLimiter]
    assert kinds(registry.get("another", base="mine")) == [RateLimiter]
    with pytest.raises(InvalidValueError, match="base must be one of consumer, database, http"):
        registry.get("other", base="none")


def test_there_are_only_so_many_services() -> None:
    registry = Registry(max_services=2)
    registry.get("a")
    registry.get("b")
    with pytest.raises(InvalidValueError, match="one of at most 2; name services, not calls"):
        registry.get("c")


@pytest.mark.parametrize(
    "preset", [http_client_defaults, database_defaults, message_consumer_defaults]
)
async def test_each_preset_is_a_pipeline_that_works(preset: Any) -> None:
    guarded = build_pipeline(preset(), name="orders")
    assert await guarded(asyncio.sleep)(0, "fine") == "fine"


async def test_the_preset_for_http_retries_and_opens() -> None:
    guarded = build_pipeline(http_client_defaults(), name="orders")
    made = 0

    @guarded
    async def call() -> None:
        nonlocal made
        made += 1
        raise ConnectionError("down")

    with testing(), pytest.raises(ConnectionError):
        await call()
    assert made == 3


def test_a_config_can_be_written_by_hand_too() -> None:
    config = PipelineConfig.model_validate({"timeout": {"seconds": 1, "enabled": False}})
    assert config.disabled == {"timeout"}
    with pytest.raises(ValidationError):
        PipelineConfig.model_validate("timeout")


def update(registry: Registry, **parts: Any) -> None:
    registry.update({"services": {"a": parts}})


async def test_calls_in_flight_keep_their_places_in_an_adaptive_limit() -> None:
    registry = Registry({"services": {"a": {"adaptive_limit": {"initial": 3, "max_limit": 3}}}})
    pipeline, end = registry.get("a"), asyncio.Event()
    calls = [asyncio.create_task(pipeline.arun(end.wait)) for _ in range(3)]
    await asyncio.sleep(0)
    update(registry, adaptive_limit={"initial": 3, "max_limit": 3, "min_limit": 2})
    with pytest.raises(LimitReachedError):
        await pipeline.arun(end.wait)
    end.set()
    await asyncio.gather(*calls)
    await pipeline.arun(end.wait)


@pytest.mark.parametrize("algorithm", ["aimd", "vegas"])
def test_an_adaptive_limit_keeps_what_it_has_learned(algorithm: str) -> None:
    registry = Registry({"services": {"a": {"adaptive_limit": {"algorithm": "aimd"}}}})
    pipeline = registry.get("a")
    limit: Any = pipeline.policies[0]
    for _ in range(10):
        with pytest.raises(TimeoutError):
            pipeline.run(raises, TimeoutError())
    assert limit.limit == 6
    update(registry, adaptive_limit={"algorithm": algorithm, "max_limit": 50})
    assert (limit.limit, limit.algorithm) == (6, algorithm)
    update(registry, adaptive_limit={"algorithm": algorithm, "min_limit": 8})
    assert limit.limit == 8
    update(registry, adaptive_limit={"algorithm": algorithm, "initial": 5, "max_limit": 5})
    assert limit.limit == 5


def raises(error: Exception) -> None:
    raise error


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"ratio": 0, "min_per_second": 1}, {"ratio": 0.1, "min_per_second": 1.1}),
        ({"ratio": 0, "min_per_second": 1}, {"min_per_second": 0.5, "window_seconds": 20}),
    ],
    ids=["more", "another window"],
)
def test_a_retry_budget_that_is_spent_stays_spent(before: Any, after: Any, clock: Any) -> None:
    retry = {"on": "OSError", "attempts": 2, "backoff": {"kind": "fixed", "seconds": 0}}
    registry = Registry({"services": {"a": {"retry": retry, "retry_budget": before}}}, clock=clock)
    pipeline = registry.get("a")
    budget: Any = cast("Any", pipeline.policies[0]).budget
    while budget.try_spend():
        pass
    update(registry, retry=retry, retry_budget=after)
    assert cast("Any", pipeline.policies[0]).budget is budget
    assert budget.available <= 1.1
    clock.advance(40)
    assert budget.available == pytest.approx(
        after["min_per_second"] * after.get("window_seconds", 10)
    )
    update(registry, retry=retry)
    assert cast("Any", pipeline.policies[0]).budget is None


async def test_a_hedge_keeps_the_delay_it_has_learned() -> None:
    registry = Registry({"services": {"a": {"hedge": {"delay_percentile": 0.5}}}})
    hedge: Any = registry.get("a").policies[0]
    for number in range(20):
        hedge.delay.record(number / 10)
    assert hedge.delay_seconds == 0.9
    update(registry, hedge={"delay_percentile": 0.95, "on": "OSError", "budget_ratio": 0.2})
    assert hedge.delay_seconds == 1.8
    assert (hedge.on, hedge.budget.ratio) == ((OSError,), 0.2)
    update(registry, hedge={"delay_seconds": 0.1})
    assert hedge.delay_seconds == 0.1
    update(registry, hedge={"delay_percentile": 0.95})
    assert hedge.delay_seconds is None
