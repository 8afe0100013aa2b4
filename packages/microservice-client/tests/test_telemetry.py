from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags
from opentelemetry.util.types import AttributeValue

from microservice_client import AsyncServiceClient, NoInstanceCallError, ServicePolicy
from microservice_client.testing import FakeMesh


class RecordedSpan(NonRecordingSpan):
    """A span that keeps what it is told."""

    def __init__(self, name: str, kind: trace.SpanKind) -> None:
        super().__init__(SpanContext(0xA, 0xB, is_remote=False, trace_flags=TraceFlags(1)))
        self.name = name
        self.kind = kind
        self.attributes: dict[str, AttributeValue] = {}
        self.error = False

    def is_recording(self) -> bool:
        return True

    def set_attribute(self, key: str, value: AttributeValue) -> None:
        self.attributes[key] = value

    def set_status(self, status: object, description: str | None = None) -> None:
        self.error = True


class RecordingTracer(trace.NoOpTracer):
    def __init__(self) -> None:
        self.spans: list[RecordedSpan] = []

    @contextmanager
    def start_as_current_span(  # type: ignore[override]
        self, name: str, *, kind: trace.SpanKind
    ) -> Iterator[RecordedSpan]:
        span = RecordedSpan(name, kind)
        self.spans.append(span)
        with trace.use_span(span):
            yield span


class Provider(trace.TracerProvider):
    def __init__(self) -> None:
        self.tracer = RecordingTracer()

    def get_tracer(self, *args: object, **kwargs: object) -> trace.Tracer:
        return self.tracer


@pytest.fixture
def provider() -> Provider:
    return Provider()


async def test_a_call_is_one_client_span_with_what_became_of_it(provider: Provider) -> None:
    mesh = FakeMesh()
    answers = iter([503, 200])
    await mesh.start("orders", "10.0.0.1:80", lambda _: httpx.Response(next(answers)))
    policy = ServicePolicy(backoff_seconds=0)
    async with AsyncServiceClient(
        mesh.registry, transport=mesh, default_policy=policy, tracer_provider=provider
    ) as client:
        await client.get("orders", "/v1/orders/7")
    (span,) = provider.tracer.spans
    assert (span.name, span.kind, span.error) == ("GET orders", trace.SpanKind.CLIENT, False)
    assert span.attributes == {
        "http.request.method": "GET",
        "server.address": "orders",
        "url.path": "/v1/orders/7",
        "http.response.status_code": 200,
        "http.request.resend_count": 1,
    }


async def test_the_trace_context_goes_along(provider: Provider) -> None:
    mesh = FakeMesh()
    await mesh.start("orders", "10.0.0.1:80", lambda _: httpx.Response(200))
    async with AsyncServiceClient(
        mesh.registry, transport=mesh, tracer_provider=provider
    ) as client:
        await client.get("orders", "/")
    assert mesh.requests[0].headers["traceparent"] == f"00-{0xA:032x}-{0xB:016x}-01"


async def test_an_error_status_marks_the_span(provider: Provider) -> None:
    mesh = FakeMesh()
    await mesh.start("orders", "10.0.0.1:80", lambda _: httpx.Response(404))
    async with AsyncServiceClient(
        mesh.registry, transport=mesh, tracer_provider=provider
    ) as client:
        await client.get("orders", "/")
    (span,) = provider.tracer.spans
    assert span.error
    assert span.attributes["error.type"] == "404"


async def test_a_call_that_fails_ends_its_span(provider: Provider) -> None:
    async with AsyncServiceClient(
        FakeMesh().registry, transport=FakeMesh(), tracer_provider=provider
    ) as client:
        with pytest.raises(NoInstanceCallError):
            await client.get("orders", "/")
    assert len(provider.tracer.spans) == 1
    assert trace.get_current_span() is trace.INVALID_SPAN
