"""What needs the extra `otel`."""

from collections import Counter
from typing import Any

import pytest

from microservice_governance import (
    AdaptiveLimit,
    BreakerConfig,
    CircuitBreaker,
    CircuitOpenError,
    Fallback,
    KeyedCircuitBreakers,
    pipeline,
    record_metrics,
)


class Meter:
    """A meter that keeps what is counted; the API alone counts nothing."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, ...]] = Counter()

    def create_counter(self, name: str, unit: str) -> Any:
        return Instrument(name, self.counts)

    create_up_down_counter = create_counter


class Instrument:
    def __init__(self, name: str, counts: Counter[tuple[str, ...]]) -> None:
        self.name, self.counts = name, counts

    def add(self, amount: int, attributes: dict[str, str]) -> None:
        self.counts[(self.name, *attributes.values())] += amount


def fails() -> str:
    raise OSError("down")


def test_what_happens_is_counted_until_it_is_ended(clock: Any) -> None:
    meter: Any = Meter()
    config = BreakerConfig(consecutive_failures=1, permitted_half_open_calls=1)
    breaker = CircuitBreaker("orders", config, clock=clock)
    guarded = pipeline(Fallback("none", on=(OSError, CircuitOpenError), name="orders"), breaker)
    end = record_metrics(guarded, meter=meter)
    assert [guarded.run(fails) for _ in range(3)] == ["none"] * 3
    clock.advance(30)
    guarded.run(str)
    end()
    breaker.open()
    breakers = "circuit_breaker", "orders"
    assert meter.counts == {
        ("governance.fallbacks", "fallback", "orders"): 3,
        ("governance.rejections", *breakers): 2,
        ("governance.breaker.transitions", *breakers, "open"): 1,
        ("governance.breaker.transitions", *breakers, "half-open"): 1,
        ("governance.breaker.transitions", *breakers, "closed"): 1,
        ("governance.breaker.not_closed", *breakers): 0,
    }


def test_an_adaptive_limit_says_what_it_gained() -> None:
    meter: Any = Meter()
    limit = AdaptiveLimit("aimd", initial=1)
    record_metrics(limit, meter=meter)
    limit.run(str)
    assert meter.counts == {("governance.limit.change", "adaptive_limit", "adaptive limit"): 1}


def test_there_are_only_so_many_names() -> None:
    meter: Any = Meter()
    breakers = KeyedCircuitBreakers()
    record_metrics(breakers, meter=meter, max_names=2)
    for key in "abcd":
        breakers.get(key).open()
    breakers.get("a").close()
    names = {key[2] for key in meter.counts}
    assert names == {"a", "b", "other"}


def test_by_default_it_counts_into_the_global_provider() -> None:
    breaker = CircuitBreaker("orders")
    end = record_metrics(breaker)
    breaker.transition_to("forced-open")
    with pytest.raises(CircuitOpenError):
        breaker.run(fails)
    end()
