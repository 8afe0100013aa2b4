"""One trace across two services, read back from an in-memory exporter and from a real collector."""

import asyncio
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from required_servers import servers_command

from microservice_client import AsyncServiceClient, ServicePolicy
from microservice_client.testing import FakeMesh
from microservice_kit.telemetry.tracing import TracingMiddleware

A, B, STOCK = "10.0.0.1:80", "10.0.0.2:80", "10.0.1.1:80"


async def call_two_services(provider: TracerProvider, meters: MeterProvider | None = None) -> None:
    """`orders`, one of whose two instances is down, asks `stock` before it answers."""
    mesh = FakeMesh()
    orders, stock = FastAPI(), FastAPI()
    for app in (orders, stock):
        app.add_middleware(TracingMiddleware, tracer_provider=provider)
    policy = ServicePolicy(backoff_seconds=0, balancer="round_robin", breaker_failures=99)
    async with AsyncServiceClient(
        mesh.registry,
        transport=mesh,
        default_policy=policy,
        tracer_provider=provider,
        meter_provider=meters,
    ) as client:

        @orders.get("/orders/{order_id}")
        async def order(order_id: int) -> Any:
            return (await client.get("stock", f"/stock/{order_id}")).json()

        @stock.get("/stock/{sku}")
        async def in_stock(sku: int) -> int:
            return sku

        await mesh.start("orders", A, orders)
        await mesh.start("orders", B, orders)
        await mesh.start("stock", STOCK, stock)
        mesh.fail(A, "refuse")
        around = False
        while not around:  # the balancer begins where it likes
            assert (await client.get("orders", "/orders/7")).json() == 7
            around = len(client.recent_calls("orders")[0].attempts) == 2


class Node:
    """A span and those below it."""

    def __init__(self, name: str, attributes: dict[str, Any]) -> None:
        self.name = name
        self.attributes = attributes
        self.below: list[Node] = []

    def shape(self) -> Any:
        """Name and error, with what is below."""
        shown = f"{self.name}!" if "error.type" in self.attributes else self.name
        return (shown, [one.shape() for one in self.below]) if self.below else shown


def trees(spans: list[tuple[str, str, str, dict[str, Any], int]]) -> list[Node]:
    """The roots, from (id, parent's id, name, attributes, start) of each span."""
    nodes = {one[0]: Node(one[2], one[3]) for one in spans}
    roots = []
    for span_id, parent, _, _, _ in sorted(spans, key=lambda one: one[4]):
        if parent in nodes:
            nodes[parent].below.append(nodes[span_id])
        else:
            roots.append(nodes[span_id])
    return roots


STRAIGHT = (
    "GET orders",
    [
        (
            "GET",
            [
                (
                    "GET /orders/{order_id}",
                    [("GET stock", [("GET", ["GET /stock/{sku}"])])],
                )
            ],
        )
    ],
)
AROUND = ("GET orders", ["GET!", *STRAIGHT[1]])


def assert_whole_calls(roots: list[Node]) -> None:
    shapes = [root.shape() for root in roots]
    assert AROUND in shapes
    assert [shape for shape in shapes if shape not in (STRAIGHT, AROUND)] == []


def flat(span: ReadableSpan) -> tuple[str, str, str, dict[str, Any], int]:
    assert span.context is not None
    parent = format(span.parent.span_id, "016x") if span.parent else ""
    own = format(span.context.span_id, "016x")
    return own, parent, span.name, dict(span.attributes or {}), span.start_time or 0


async def test_a_trace_is_one_tree_across_two_services() -> None:
    exporter, provider, reader = InMemorySpanExporter(), TracerProvider(), InMemoryMetricReader()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    await call_two_services(provider, MeterProvider([reader]))
    spans = exporter.get_finished_spans()
    assert_whole_calls(trees([flat(span) for span in spans]))
    assert {span.name for span in spans if span.parent is None} == {"GET orders"}
    data = reader.get_metrics_data()
    assert data is not None
    named = {
        metric.name: metric
        for scope in data.resource_metrics[0].scope_metrics
        for metric in scope.metrics
    }
    durations = named["http.client.request.duration"]
    assert durations.unit == "s"
    told = [dict(point.attributes or {}) for point in durations.data.data_points]
    assert {
        "http.request.method": "GET",
        "server.address": "orders",
        "error.type": "ConnectError",
    } in told
    assert not [one for one in told if "10.0." in str(one)]


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[dict[str, str]]:
    """An OpenTelemetry collector of this test's own."""
    program = servers_command("otel-collector")
    ports = {}
    for role in ("grpc", "http"):
        import socket

        with socket.create_server(("127.0.0.1", 0)) as probe:
            ports[role] = probe.getsockname()[1]
    environment = {**os.environ, "REFERENCE_SERVERS_RUN": str(tmp_path / "run")}
    environment |= {
        f"REFERENCE_SERVERS_PORT_OTEL_COLLECTOR_{role.upper()}": str(port)
        for role, port in ports.items()
    }

    def servers(verb: str, *more: str) -> str:
        done = subprocess.run(
            [program, verb, *more], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    servers("up", "otel-collector")
    try:
        lines = [line.removeprefix("export ") for line in servers("env").splitlines()]
        yield {
            name: value.strip("'\"")
            for name, _, value in (line.partition("=") for line in lines)
            if name.startswith("OTEL")
        }
    finally:
        servers("down", "otel-collector")


@pytest.mark.timeout(180)
async def test_a_real_collector_receives_the_same_tree(collector: dict[str, str]) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(resource=Resource({"service.name": "both"}))
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    await call_two_services(provider)
    endpoint = collector["OTEL_COLLECTOR_HTTP_ENDPOINT"]
    async with httpx.AsyncClient(base_url=endpoint) as http:
        sent = await http.post("/v1/traces", json=as_otlp(exporter.get_finished_spans()))
        sent.raise_for_status()
    sent_spans = len(exporter.get_finished_spans())
    spans = await received(Path(collector["OTEL_COLLECTOR_FILE"]), sent_spans)
    assert_whole_calls(trees(spans))


def as_otlp(spans: tuple[ReadableSpan, ...]) -> dict[str, Any]:
    """The spans as OTLP's JSON, which needs no exporter package."""

    def attribute(name: str, value: Any) -> dict[str, Any]:
        kind = "intValue" if isinstance(value, int) else "stringValue"
        return {"key": name, "value": {kind: str(value)}}

    return {
        "resourceSpans": [
            {
                "resource": {"attributes": [attribute("service.name", "both")]},
                "scopeSpans": [
                    {
                        "spans": [
                            {
                                "traceId": format(span.context.trace_id, "032x"),
                                "spanId": format(span.context.span_id, "016x"),
                                "parentSpanId": flat(span)[1],
                                "name": span.name,
                                "kind": span.kind.value + 1,
                                "startTimeUnixNano": str(span.start_time),
                                "endTimeUnixNano": str(span.end_time),
                                "attributes": [
                                    attribute(*pair) for pair in (span.attributes or {}).items()
                                ],
                            }
                            for span in spans
                            if span.context is not None
                        ]
                    }
                ],
            }
        ]
    }


def lines_of(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


async def received(path: Path, count: int) -> list[tuple[str, str, str, dict[str, Any], int]]:
    """So many spans, as the collector wrote them down."""
    async with asyncio.timeout(60):
        while True:
            lines = await asyncio.to_thread(lines_of, path)
            spans = [
                span
                for line in lines
                for resource in json.loads(line).get("resourceSpans", [])
                for scope in resource["scopeSpans"]
                for span in scope["spans"]
            ]
            if len(spans) >= count:
                break
            await asyncio.sleep(0.1)
    return [
        (
            span["spanId"],
            span.get("parentSpanId", ""),
            span["name"],
            {one["key"]: one["value"] for one in span.get("attributes", [])},
            int(span["startTimeUnixNano"]),
        )
        for span in spans
    ]
