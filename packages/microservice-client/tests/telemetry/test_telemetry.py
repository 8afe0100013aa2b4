import sys
import threading
import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from opentelemetry import context, trace
from opentelemetry.context import attach, detach
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags
from opentelemetry.util.types import AttributeValue

from microservice_client import AsyncServiceClient, NoInstanceCallError, ServicePolicy
from microservice_client.telemetry.instance_metrics import MAX_NAMED_INSTANCES, InstanceMetrics
from microservice_client.testing import FakeMesh
from microservice_core import ServiceInstance

A, B = "10.0.0.1:80", "10.0.0.2:80"


class RecordedSpan(NonRecordingSpan):
    """A span that keeps what it is told."""

    def __init__(self, name: str, kind: trace.SpanKind, number: int) -> None:
        super().__init__(SpanContext(0xA, number, is_remote=False, trace_flags=TraceFlags(1)))
        self.name = name
        self.kind = kind
        parent = trace.get_current_span()
        self.parent = parent if isinstance(parent, RecordedSpan) else None
        self.attributes: dict[str, AttributeValue] = {}
        self.error = False
        self.ended = 0

    def is_recording(self) -> bool:
        return True

    def set_attribute(self, key: str, value: AttributeValue) -> None:
        self.attributes[key] = value

    def set_status(self, status: object, description: str | None = None) -> None:
        self.error = True

    def end(self, end_time: int | None = None) -> None:
        self.ended += 1


class RecordingTracer(trace.NoOpTracer):
    def __init__(self) -> None:
        self.spans: list[RecordedSpan] = []

    def start_span(  # type: ignore[override]
        self, name: str, *, kind: trace.SpanKind
    ) -> RecordedSpan:
        span = RecordedSpan(name, kind, len(self.spans) + 1)
        self.spans.append(span)
        return span

    @contextmanager
    def start_as_current_span(  # type: ignore[override]
        self, name: str, *, kind: trace.SpanKind
    ) -> Iterator[RecordedSpan]:
        span = self.start_span(name, kind=kind)
        with trace.use_span(span, end_on_exit=True):
            yield span


class Provider(trace.TracerProvider):
    def __init__(self) -> None:
        self.tracer = RecordingTracer()

    def get_tracer(self, *args: object, **kwargs: object) -> trace.Tracer:
        return self.tracer


@pytest.fixture
def provider() -> Provider:
    return Provider()


async def mesh_of(*statuses: int) -> FakeMesh:
    mesh = FakeMesh()
    answers = iter(statuses)
    await mesh.start("orders", A, lambda _: httpx.Response(next(answers)))
    return mesh


async def test_a_call_is_one_client_span_with_a_span_for_each_attempt(provider: Provider) -> None:
    mesh = await mesh_of(503, 200)
    policy = ServicePolicy(backoff_seconds=0)
    async with AsyncServiceClient(
        mesh.registry, transport=mesh, default_policy=policy, tracer_provider=provider
    ) as client:
        await client.get("orders", "/v1/orders/7", params={"secret": "s"})
    call, first, second = provider.tracer.spans
    assert {span.kind for span in provider.tracer.spans} == {trace.SpanKind.CLIENT}
    assert [span.ended for span in provider.tracer.spans] == [1, 1, 1]
    assert (call.name, call.error, call.parent) == ("GET orders", False, None)
    assert call.attributes == {
        "http.request.method": "GET",
        "server.address": "orders",
        "peer.service": "orders",
        "url.path": "/v1/orders/7",
        "http.response.status_code": 200,
        "http.request.resend_count": 1,
    }
    assert (first.parent, first.error) == (call, True)
    assert first.attributes["error.type"] == "503"
    assert (second.parent, second.error) == (call, False)
    assert second.attributes == {
        "http.request.method": "GET",
        "server.address": "10.0.0.1",
        "server.port": 80,
        "url.full": "http://10.0.0.1/v1/orders/7",
        "microservice.instance.id": A,
        "http.response.status_code": 200,
        "http.request.resend_count": 1,
    }


async def test_the_context_of_the_attempt_goes_along(provider: Provider) -> None:
    mesh = await mesh_of(503, 200)
    policy = ServicePolicy(backoff_seconds=0)
    async with AsyncServiceClient(
        mesh.registry, transport=mesh, default_policy=policy, tracer_provider=provider
    ) as client:
        response = await client.get("orders", "/")
    sent = [request.headers["traceparent"] for request in mesh.requests]
    assert sent == [f"00-{0xA:032x}-{number:016x}-01" for number in (2, 3)]
    assert "traceparent" not in response.request.headers


async def test_without_an_sdk_the_callers_trace_goes_along_all_the_same() -> None:
    mesh = await mesh_of(200, 200)
    context = trace.set_span_in_context(
        NonRecordingSpan(SpanContext(0xC, 0xD, is_remote=True, trace_flags=TraceFlags(1)))
    )
    async with AsyncServiceClient(mesh.registry, transport=mesh) as client:
        token = attach(context)
        await client.get("orders", "/")
        detach(token)
        await client.get("orders", "/")
    assert mesh.requests[0].headers["traceparent"] == f"00-{0xC:032x}-{0xD:016x}-01"
    assert "traceparent" not in mesh.requests[1].headers


async def test_an_error_status_marks_both_spans(provider: Provider) -> None:
    mesh = await mesh_of(404)
    async with AsyncServiceClient(
        mesh.registry, transport=mesh, tracer_provider=provider
    ) as client:
        await client.get("orders", "/")
    assert [(span.error, span.attributes["error.type"]) for span in provider.tracer.spans] == [
        (True, "404")
    ] * 2


async def test_an_attempt_that_fails_says_how(provider: Provider) -> None:
    mesh = await mesh_of()
    mesh.fail(A, "reset")
    policy = ServicePolicy(attempts=1)
    async with AsyncServiceClient(
        mesh.registry, transport=mesh, default_policy=policy, tracer_provider=provider
    ) as client:
        with pytest.raises(httpx.TransportError):
            await client.get("orders", "/")
    call, attempt = provider.tracer.spans
    assert call.attributes["error.type"] == "CallFailedError"
    assert attempt.attributes["error.type"] == "ReadError"
    assert attempt.ended == 1


async def test_a_call_that_fails_ends_its_span(provider: Provider) -> None:
    async with AsyncServiceClient(
        FakeMesh().registry, transport=FakeMesh(), tracer_provider=provider
    ) as client:
        with pytest.raises(NoInstanceCallError):
            await client.get("orders", "/")
    (span,) = provider.tracer.spans
    assert (span.attributes["error.type"], span.ended) == ("NoInstanceCallError", 1)
    assert trace.get_current_span() is trace.INVALID_SPAN


async def test_a_method_nobody_knows_makes_no_new_name(provider: Provider) -> None:
    mesh = await mesh_of(200)
    async with AsyncServiceClient(
        mesh.registry, transport=mesh, tracer_provider=provider
    ) as client:
        await client.request("BREW", "orders", "/")
    assert [span.name for span in provider.tracer.spans] == ["_OTHER orders", "_OTHER"]


async def test_calls_and_attempts_are_measured_by_service_never_by_instance(meters: Any) -> None:
    mesh = await mesh_of(503, 200)
    policy = ServicePolicy(backoff_seconds=0)
    async with AsyncServiceClient(
        mesh.registry, transport=mesh, default_policy=policy, meter_provider=meters
    ) as client:
        await client.get("orders", "/v1/orders/7")
        mesh.fail(A, "reset")
        with pytest.raises(httpx.TransportError):
            await client.post("orders", "/")
    meter = meters.meter
    common = {"http.request.method": "GET", "server.address": "orders"}
    assert meter.of("http.client.request.duration") == [
        {**common, "http.response.status_code": 503, "error.type": "503"},
        {**common, "http.response.status_code": 200},
        {**common, "http.request.method": "POST", "error.type": "ReadError"},
    ]
    assert meter.of("microservice.client.call.duration") == [
        {**common, "http.response.status_code": 200},
        {**common, "http.request.method": "POST", "error.type": "CallFailedError"},
    ]
    attempts = [n for name, n, _ in meter.told if name == "microservice.client.call.attempts"]
    assert attempts == [2, 1]
    active = [n for name, n, _ in meter.told if name == "microservice.client.active_calls"]
    assert active == [1, -1, 1, -1]


async def test_instances_are_measured_where_that_was_asked_for(meters: Any) -> None:
    mesh = await mesh_of(503, 200)
    await mesh.registry.register(ServiceInstance("orders", "10.0.0.2", 80, enabled=False))
    policy = ServicePolicy(backoff_seconds=0, attempts=1)
    async with AsyncServiceClient(
        mesh.registry,
        transport=mesh,
        default_policy=policy,
        meter_provider=meters,
        instance_metrics=True,
    ) as client:
        await client.get("orders", "/v1/orders/7")
        health = meters.meter.observed("microservice.client.instance.health")
    named = {"server.address": "orders", "microservice.instance.id": A}
    assert meters.meter.of("microservice.client.instance.duration") == [
        {**named, "http.response.status_code": 503, "error.type": "503"},
    ]
    assert health == [(1, named), (0, {**named, "microservice.instance.id": B})]
    assert meters.meter.observed("microservice.client.instance.health") == []


@pytest.mark.parametrize(
    ("state", "value"), [("closed", 1), ("half-open", 1), ("open", 0), ("forced-open", 0)]
)
def test_an_instance_whose_breaker_is_open_is_not_well(meters: Any, state: str, value: int) -> None:
    instance = ServiceInstance("orders", "10.0.0.1", 80)
    InstanceMetrics(meters, lambda: {"orders": (instance,)}, lambda _service: {A: state})
    ((seen, _),) = meters.meter.observed("microservice.client.instance.health")
    assert seen == value


def test_closed_it_holds_nobody(meters: Any) -> None:
    class Engine:
        def known(self) -> dict[str, tuple[ServiceInstance, ...]]:
            return {}

        def states(self, service: str) -> dict[str, str]:
            return {}

    engine = Engine()
    counted = InstanceMetrics(meters, engine.known, engine.states)
    gone = weakref.ref(engine)
    counted.close()
    del engine
    assert gone() is None


async def test_another_thread_may_look_while_services_and_instances_come(meters: Any) -> None:
    mesh = FakeMesh()
    names = [f"service-{number}" for number in range(300)]
    for number, name in enumerate(names):
        await mesh.start(
            name, f"10.{number // 250}.{number % 250}.1:80", lambda _: httpx.Response(200)
        )
    errors: list[Exception] = []
    done = threading.Event()
    interval = sys.getswitchinterval()
    async with AsyncServiceClient(
        mesh.registry, transport=mesh, meter_provider=meters, instance_metrics=True
    ) as client:

        def look() -> None:
            try:
                while not done.is_set():
                    meters.meter.observed("microservice.client.instance.health")
            except RuntimeError as error:  # a dictionary changed under the reader
                errors.append(error)

        reader = threading.Thread(target=look)
        sys.setswitchinterval(1e-6)
        reader.start()
        try:
            for name in names:
                await client.get(name, "/")
        finally:
            sys.setswitchinterval(interval)
            done.set()
            reader.join()
    assert errors == []


def test_only_so_many_instances_are_named(meters: Any) -> None:
    counted = InstanceMetrics(meters, dict, lambda _service: {})
    for number in range(2 * MAX_NAMED_INSTANCES):
        counted.record_attempt("orders", f"10.0.0.{number}:80", 0.1, 200)
    counted.record_attempt("orders", "10.0.0.0:80", 0.1, 200)
    told = meters.meter.of("microservice.client.instance.duration")
    names = Counter(one["microservice.instance.id"] for one in told)
    assert len(names) == MAX_NAMED_INSTANCES + 1
    assert (names["other"], names["10.0.0.0:80"]) == (MAX_NAMED_INSTANCES, 2)


async def test_the_last_calls_can_be_looked_at() -> None:
    mesh = await mesh_of(503, 200, 404)
    await mesh.start("stock", B, lambda _: httpx.Response(200))
    policy = ServicePolicy(backoff_seconds=0)
    async with AsyncServiceClient(
        mesh.registry, transport=mesh, default_policy=policy, keep_calls=3
    ) as client:
        await client.get("orders", "/v1/orders/7", params={"secret": "s"})
        await client.delete("orders", f"/{'x' * 500}")
        await client.get("stock", "/")
        with pytest.raises(NoInstanceCallError):
            await client.get("nobody", "/")
        newest_first = client.recent_calls()
        (of_orders,) = client.recent_calls("orders")
    assert [(one.service, one.outcome) for one in newest_first] == [
        ("nobody", "NoInstanceCallError"),
        ("stock", "200"),
        ("orders", "404"),
    ]
    assert of_orders.method == "DELETE"
    assert len(of_orders.path) < 210
    assert [attempt.outcome for attempt in of_orders.attempts] == ["404"]


async def test_what_an_interceptor_says_of_a_call_is_kept_with_it() -> None:
    def label(request: httpx.Request) -> None:
        request.extensions["call_labels"] = {"lane": "dev"}

    mesh = await mesh_of(200, 200)
    async with AsyncServiceClient(mesh.registry, transport=mesh, interceptors=[label]) as client:
        await client.get("orders", "/")
        (record,) = client.recent_calls()
        assert record.labels == {"lane": "dev"}
    async with AsyncServiceClient(mesh.registry, transport=mesh) as client:
        odd = httpx.Request("GET", "http://orders/", extensions={"call_labels": "no mapping"})
        await (await client.call("orders", odd)).aclose()
        (record,) = client.recent_calls()
        assert record.labels == {}


async def test_an_instrumentation_of_the_http_library_adds_no_span_to_an_attempt() -> None:
    # It asks this before it starts a span; the API has no public name for it.
    key = context._SUPPRESS_HTTP_INSTRUMENTATION_KEY
    suppressed: list[object] = []

    async def respond(_: httpx.Request) -> httpx.Response:
        suppressed.append(context.get_value(key))
        return httpx.Response(200)

    transport = httpx.MockTransport(respond)
    addresses = {"orders": ["http://10.0.0.1"]}
    for provider in (Provider(), None):
        async with AsyncServiceClient.from_addresses(
            addresses, transport=transport, tracer_provider=provider
        ) as client:
            await client.get("orders", "/")
            assert context.get_value(key) is None
    assert suppressed == [True, None]
