"""The lane beside OpenTelemetry: baggage read and written, never to foreign hosts; metrics."""

from typing import Any, Protocol

import httpx
import pytest
from opentelemetry import baggage, context, propagate
from opentelemetry.metrics import NoOpCounter, NoOpMeter

from lane_router import (
    LaneCounts,
    LaneRouter,
    OtelLaneObserver,
    current_lane,
    instrument,
    lane_scope,
)
from lane_router.propagation.carriers import Carriers


class Mesh(Protocol):
    base: Any
    dev: Any
    foreign: Any
    foreign_url: str

    def router(self, mode: str = ...) -> LaneRouter: ...


class Propagating(httpx.HTTPTransport):
    """What OpenTelemetry's instrumentation does: it injects at the transport, last of all."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        propagate.inject(request.headers)
        return super().handle_request(request)


def test_a_propagator_writes_the_lane_into_the_mesh_and_not_to_a_stranger(mesh: Mesh) -> None:
    instrument(mesh.router())
    token = context.attach(baggage.set_baggage("user", "7"))
    try:
        with httpx.Client(transport=Propagating()) as client, lane_scope("dev"):
            client.get("http://orders/")
            client.get(mesh.foreign_url)
            with_lane = context.attach(baggage.set_baggage("lane", "dev"))
            client.get(mesh.foreign_url)
            context.detach(with_lane)
        assert baggage.get_all() == {"user": "7"}
    finally:
        context.detach(token)
    (_, lane, members), *_ = mesh.dev.requests
    assert lane == "dev"
    assert set(members.split(",")) == {"user=7", "lane=dev"}
    assert mesh.foreign.requests == [("/", None, "user=7"), ("/", None, "user=7")]


def test_a_lane_that_only_opentelemetry_read_is_seen() -> None:
    token = context.attach(baggage.set_baggage("lane", "dev"))
    try:
        assert Carriers().read([]).lane == "dev"
        assert Carriers().read(["test"]).problem == "conflict"
        assert Carriers().read([], ["lane=other"]).lane == "other"
    finally:
        context.detach(token)
    assert current_lane() is None


class RecordingCounter(NoOpCounter):
    def __init__(self, name: str, records: list[dict[str, Any]]) -> None:
        super().__init__(name)
        self.metric = name
        self.records = records

    def add(self, amount: float, attributes: Any = None, context: Any = None) -> None:
        self.records.append({"metric": self.metric, **attributes})


class RecordingMeter(NoOpMeter):
    """A meter of the API that remembers what was counted."""

    def __init__(self) -> None:
        super().__init__("test")
        self.records: list[dict[str, Any]] = []

    def create_counter(self, name: str, unit: str = "", description: str = "") -> NoOpCounter:
        return RecordingCounter(name, self.records)


def test_resolutions_are_counted_by_service_lane_and_outcome() -> None:
    meter = RecordingMeter()
    observer = OtelLaneObserver(meter=meter, most=2)
    document = {"services": {"orders": {"lanes": ["dev"], "port": 80}}}
    router = LaneRouter.from_document(document, observer=observer)
    for lane in ("dev", None, "other"):
        router.resolve("orders", lane)
    router.resolve("www.example.com", "dev")
    observer.on_drop("invalid")

    def resolution_record(service: str, lane: str, outcome: str) -> dict[str, str]:
        attributes = {"lane.service": service, "lane.name": lane, "lane.outcome": outcome}
        return {"metric": "lane.resolve", **attributes}

    assert meter.records == [
        resolution_record("orders", "dev", "lane"),
        resolution_record("orders", "", "base"),
        resolution_record("orders", "other", "base_fallback"),
        resolution_record("foreign", "dev", "foreign"),
        {"metric": "lane.dropped", "lane.reason": "invalid"},
    ]
    assert OtelLaneObserver() is not None


@pytest.mark.parametrize("most", [1, 5])
def test_counts_are_bounded_whatever_is_resolved(most: int) -> None:
    counts = LaneCounts(most=most)
    for number in range(100):
        counts.on_resolution(f"s{number}", f"l{number}", "base_fallback")
    assert len(counts.resolutions) <= most + 1
    assert counts.resolutions["other", "other", "base_fallback"] == 100 - most
