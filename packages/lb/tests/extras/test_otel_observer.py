"""Tests that need the extra `otel`."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import pytest
from opentelemetry import metrics

from microservice_lb import ObservedBalancer, OtelObserver, RoundRobin


@dataclass(frozen=True)
class Host:
    instance_id: str
    weight: float = 1.0


class Meter:
    """A meter that stores its counts; the API alone counts nothing."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()

    def create_counter(self, name: str, unit: str) -> Any:
        return Instrument(name, self.counts)

    create_up_down_counter = create_counter


class Instrument:
    def __init__(self, name: str, counts: Counter[tuple[str, str]]) -> None:
        self.name, self.counts = name, counts

    def add(self, amount: int, attributes: dict[str, str]) -> None:
        assert attributes["lb.service"] == "orders"
        self.counts[self.name, attributes.get("lb.reason", "")] += amount


def test_what_happens_is_counted_by_service_and_reason_only() -> None:
    meter: Any = Meter()
    observer = OtelObserver("orders", meter=meter)
    balancer = ObservedBalancer(RoundRobin[Host](), observer=observer)
    balancer.update([Host("a")])
    balancer.pick()
    balancer.pick()
    observer.on_eject(Host("a"), "success_rate")
    observer.on_eject(Host("b"), "success_rate")
    observer.on_return(Host("a"))
    observer.on_panic(True)
    observer.on_panic(False)
    assert meter.counts == {
        ("lb.picks", ""): 2,
        ("lb.ejections", "success_rate"): 2,
        ("lb.ejected", ""): 1,
        ("lb.panics", ""): 1,
    }


def test_without_a_meter_the_global_one_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    meters: dict[str, Meter] = {}
    monkeypatch.setattr(metrics, "get_meter", lambda name: meters.setdefault(name, Meter()))
    OtelObserver("orders").on_pick(Host("a"))
    assert meters["microservice_lb"].counts == {("lb.picks", ""): 1}
