import inspect

import httpx
import pytest
from fastapi import FastAPI
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from microservice_client import AsyncServiceClient
from microservice_core import InMemoryServiceRegistry, ServiceInstance
from microservice_kit import TracingMiddleware


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def provider(exporter: InMemorySpanExporter) -> TracerProvider:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider


def application(provider: TracerProvider) -> FastAPI:
    app = FastAPI()
    app.add_middleware(TracingMiddleware, tracer_provider=provider)

    @app.get("/orders/{order_id}")
    async def order(order_id: int) -> int:
        return order_id // (order_id - 13)

    return app


async def test_a_call_and_its_answer_are_one_trace(
    provider: TracerProvider, exporter: InMemorySpanExporter
) -> None:
    registry = InMemoryServiceRegistry()
    await registry.register(ServiceInstance("orders", "10.0.0.1", 80))
    transport = httpx.ASGITransport(application(provider))
    async with AsyncServiceClient(
        registry, transport=transport, tracer_provider=provider
    ) as client:
        await client.get("orders", "/orders/7")
    server, attempt, caller = exporter.get_finished_spans()
    assert attempt.parent is not None
    assert attempt.context is not None
    assert server.parent is not None
    assert server.context is not None
    assert caller.context is not None
    assert server.parent.span_id == attempt.context.span_id
    assert attempt.parent.span_id == caller.context.span_id
    assert server.context.trace_id == caller.context.trace_id
    assert (server.name, server.kind) == ("GET /orders/{order_id}", SpanKind.SERVER)
    assert server.attributes is not None
    assert server.attributes["http.response.status_code"] == 200


async def test_a_failed_request_marks_its_span(
    provider: TracerProvider, exporter: InMemorySpanExporter
) -> None:
    transport = httpx.ASGITransport(application(provider), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://app") as http:
        assert (await http.get("/orders/13")).status_code == 500
        assert (await http.get("/nowhere")).status_code == 404
    failed, missing = exporter.get_finished_spans()
    assert failed.status.status_code is StatusCode.ERROR
    assert missing.status.status_code is StatusCode.UNSET
    assert missing.name == "GET"


async def test_the_lifespan_goes_through_untouched(provider: TracerProvider) -> None:
    scope_types: list[str] = []

    async def app(scope, receive, send) -> None:  # type: ignore[no-untyped-def]
        scope_types.append(scope["type"])

    middleware = TracingMiddleware(app, tracer_provider=provider)
    await middleware({"type": "lifespan"}, None, None)  # type: ignore[arg-type]
    assert scope_types == ["lifespan"]


async def test_servers_see_an_asgi_3_application(
    provider: TracerProvider, exporter: InMemorySpanExporter
) -> None:
    wrapped = TracingMiddleware(application(provider)).__call__
    assert inspect.iscoroutinefunction(wrapped)
    transport = httpx.ASGITransport(wrapped)
    async with httpx.AsyncClient(transport=transport, base_url="http://orders") as client:
        assert (await client.get("/orders/7")).status_code == 200
    assert [span.name for span in exporter.get_finished_spans()] == ["GET /orders/{order_id}"]
