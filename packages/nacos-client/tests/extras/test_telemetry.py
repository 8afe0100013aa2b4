"""Spans and metrics, taken by the OpenTelemetry API's own providers."""

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from opentelemetry import metrics, trace
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, StatusCode, TraceFlags

from nacos_client import ConfigNotFound, NacosClient
from nacos_client._telemetry import Telemetry, create_telemetry
from nacos_client.testing import FakeNacosServer


class RecordedSpan(NonRecordingSpan):
    """A span that keeps what it gets."""

    def __init__(self, name: str, attributes: dict[str, Any]) -> None:
        super().__init__(SpanContext(1, 1, is_remote=False, trace_flags=TraceFlags(1)))
        self.name = name
        self.attributes = dict(attributes)
        self.status = StatusCode.UNSET
        self.ended = 0

    def set_attribute(self, key: str, value: Any) -> None:
        self.attributes[key] = value

    def set_status(self, status: Any, description: str | None = None) -> None:
        self.status = status.status_code

    def end(self, end_time: int | None = None) -> None:
        self.ended += 1


class Recorder:
    """A tracer, a meter and its histogram, which keep what they get."""

    def __init__(self) -> None:
        self.spans: list[RecordedSpan] = []
        self.durations: list[tuple[float, dict[str, Any]]] = []

    def start_span(self, name: str, *, kind: Any, attributes: dict[str, Any]) -> Span:
        self.spans.append(RecordedSpan(name, attributes))
        return self.spans[-1]

    def create_histogram(
        self,
        name: str,
        *,
        unit: str,
        description: str,
        explicit_bucket_boundaries_advisory: Sequence[float],
    ) -> "Recorder":
        assert (name, unit) == ("nacos.client.operation.duration", "s")
        boundaries = list(explicit_bucket_boundaries_advisory)
        assert boundaries == sorted(boundaries)
        assert (boundaries[0], boundaries[-1]) == (0.005, 10)
        return self

    def record(self, amount: float, attributes: dict[str, Any]) -> None:
        self.durations.append((amount, dict(attributes)))


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def nacos(
    server: FakeNacosServer, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> Iterator[NacosClient]:
    """A client that finds the recorder where an application sets up its providers."""
    monkeypatch.setattr(trace, "get_tracer", lambda *_: recorder)
    monkeypatch.setattr(metrics, "get_meter", lambda *_: recorder)
    with NacosClient(server.address, username="nacos", password="nacos") as client:
        yield client


def test_each_operation_is_one_client_span_and_one_duration(
    nacos: NacosClient, server: FakeNacosServer, recorder: Recorder
) -> None:
    server.inject("error", "/instance/list")
    nacos.naming.instances("orders")
    (span,) = recorder.spans
    assert span.name == "GET /v3/client/ns/instance/list"
    assert span.attributes == {
        "http.request.method": "GET",
        "url.template": "/v3/client/ns/instance/list",
    }
    assert (span.status, span.ended) == (StatusCode.UNSET, 1)
    ((seconds, attributes),) = recorder.durations
    assert seconds > 0
    assert attributes == span.attributes


def test_a_failure_names_its_type_status_and_server(nacos: NacosClient, recorder: Recorder) -> None:
    with pytest.raises(ConfigNotFound):
        nacos.config.get("missing.yaml")
    span = recorder.spans[-1]
    assert span.status is StatusCode.ERROR
    assert span.attributes["error.type"] == "ConfigNotFound"
    assert span.attributes["http.response.status_code"] == 200
    assert span.attributes["server.address"] == "127.0.0.1"
    assert recorder.durations[-1][1]["error.type"] == "ConfigNotFound"


def test_labels_are_bounded_for_any_number_of_services(
    nacos: NacosClient, recorder: Recorder
) -> None:
    for number in range(50):
        nacos.naming.instances(f"service-{number}")
    assert len({tuple(sorted(each.items())) for _, each in recorder.durations}) == 1


def test_without_an_sdk_it_costs_calls_of_the_api_only() -> None:
    telemetry = create_telemetry("1.0")
    assert isinstance(telemetry, Telemetry)
    assert trace.get_tracer("x") is not None
    assert metrics.get_meter("x") is not None


def test_outcomes_pass_through(recorder: Recorder) -> None:
    from nacos_client._steps import Request, Sleep

    def operation() -> Any:
        outcome: Sequence[str] = yield Sleep(1)
        return outcome

    observed = Telemetry(recorder, recorder).instrument(  # type: ignore[arg-type]
        Request("GET", "/x"), operation()
    )
    assert next(observed) == Sleep(1)
    with pytest.raises(StopIteration) as done:
        observed.send("outcome")
    assert done.value.value == "outcome"
