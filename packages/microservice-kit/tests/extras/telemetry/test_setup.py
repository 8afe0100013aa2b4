import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider

from lane_router import lane_scope
from microservice_core import InvalidValueError
from microservice_kit import JsonFormatter, Microservice, TracingMiddleware, setup_telemetry


def measured(reader: InMemoryMetricReader, name: str) -> list[Any]:
    data = reader.get_metrics_data()
    assert data is not None
    return [
        point
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name == name
        for point in metric.data.data_points
    ]


async def test_durations_carry_the_route_and_the_status_and_never_the_path() -> None:
    reader = InMemoryMetricReader()
    app = FastAPI()
    app.add_middleware(
        TracingMiddleware, tracer_provider=TracerProvider(), meter_provider=MeterProvider([reader])
    )

    @app.get("/orders/{order_id}")
    async def order(order_id: int) -> int:
        return 1 // order_id

    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://t") as client:
        for path in ("/orders/7", "/orders/8", "/orders/0", "/nowhere"):
            await client.get(path)
        await client.request("BREW", "/orders/7")
    counts = {
        (p.attributes["http.response.status_code"], p.attributes.get("http.route")): p.count
        for p in measured(reader, "http.server.request.duration")
    }
    assert counts[200, "/orders/{order_id}"] == 2
    assert counts[500, "/orders/{order_id}"] == 1
    assert counts[404, None] == 1
    methods = {
        p.attributes["http.request.method"]
        for p in measured(reader, "http.server.request.duration")
    }
    assert methods == {"GET", "_OTHER"}
    assert {p.value for p in measured(reader, "http.server.active_requests")} == {0}


async def test_a_caller_s_trace_context_is_handed_on_without_an_sdk() -> None:
    from opentelemetry import propagate

    headers: dict[str, str] = {}
    app = FastAPI()
    app.add_middleware(TracingMiddleware)

    @app.get("/")
    async def handler() -> None:
        propagate.inject(headers)

    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://t") as client:
        await client.get("/", headers={"traceparent": parent})
        assert headers["traceparent"] == parent
        headers.clear()
        await client.get("/")
        assert headers == {}


async def test_metrics_are_served_in_prometheus_text() -> None:
    with setup_telemetry("orders", version="2", prometheus=True, install=False) as telemetry:
        micro = Microservice(telemetry=telemetry)
        app = FastAPI(lifespan=micro.lifespan)
        app.add_middleware(
            TracingMiddleware,
            tracer_provider=telemetry.tracer_provider,
            meter_provider=telemetry.meter_provider,
        )
        transport = httpx.ASGITransport(app)
        async with (
            micro.lifespan(app),
            httpx.AsyncClient(transport=transport, base_url="http://t") as client,
        ):
            await client.get("/health/live")
            answer = await client.get("/metrics")
            assert (await client.get("/health")).status_code == 200
            assert (await client.post("/health")).status_code == 405
            assert "/metrics" not in app.openapi()["paths"]
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert "http_server_request_duration_seconds_bucket" in answer.text
    assert 'service_name="orders"' in answer.text


ONCE = """
import asyncio, httpx
from fastapi import FastAPI
from microservice_kit import Microservice, TracingMiddleware, setup_telemetry

telemetry = setup_telemetry("orders", prometheus=True)
micro = Microservice(telemetry=telemetry)
app = FastAPI(lifespan=micro.lifespan)
app.add_middleware(TracingMiddleware)

@app.get("/orders/{number}")
async def order(number: int) -> int:
    return number

async def main():
    transport = httpx.ASGITransport(app)
    async with (
        micro.lifespan(app), httpx.AsyncClient(transport=transport, base_url="http://t") as client
    ):
        for number in range(3):
            await client.get(f"/orders/{number}")
        print((await client.get("/metrics")).text)

asyncio.run(main())
"""


def test_a_framework_that_measures_itself_is_not_measured_twice() -> None:
    done = subprocess.run([sys.executable, "-c", ONCE], capture_output=True, text=True, check=True)
    count = "http_server_request_duration_seconds_count{"
    samples = [line for line in done.stdout.splitlines() if line.startswith(count)]
    assert [line.rpartition(" ")[2] for line in samples if "/orders/{number}" in line] == ["3.0"]


INSTANCE_METRICS = """
import asyncio
from microservice_core import InMemoryServiceRegistry, ServiceInstance
from microservice_kit import MicroserviceModule, setup_telemetry

async def main():
    telemetry = setup_telemetry("orders", prometheus=True)
    registry = InMemoryServiceRegistry()
    await registry.register(ServiceInstance("stock", "127.0.0.1", 9))
    async with MicroserviceModule(service_registry=registry) as module:
        await module.service_client.instances("stock")
        print(telemetry.prometheus_text().decode())
    telemetry.close()

asyncio.run(main())
"""


@pytest.mark.parametrize(("wanted", "lines"), [("true", 1), ("false", 0)])
def test_instances_of_called_services_are_measured_on_demand(wanted: str, lines: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", INSTANCE_METRICS],
        env={**os.environ, "MICROSERVICE_INSTANCE_METRICS": wanted},
        capture_output=True,
        text=True,
        check=True,
    )
    health = "microservice_client_instance_health{"
    samples = [line for line in done.stdout.splitlines() if line.startswith(health)]
    assert len(samples) == lines
    assert all('id="127.0.0.1:9"' in line and line.endswith(" 1.0") for line in samples)


def test_without_prometheus_there_is_no_text() -> None:
    with (
        setup_telemetry("orders", install=False) as telemetry,
        pytest.raises(InvalidValueError, match="prometheus must be True"),
    ):
        telemetry.prometheus_text()


@pytest.mark.parametrize("ratio", [-0.1, 1.1])
def test_a_ratio_is_a_share(ratio: float) -> None:
    with pytest.raises(InvalidValueError, match="sample_ratio must be from 0 to 1"):
        setup_telemetry("orders", sample_ratio=ratio)


def test_a_new_trace_is_recorded_as_often_as_asked_for() -> None:
    for ratio, recorded in ((0.0, False), (1.0, True)):
        with setup_telemetry("orders", sample_ratio=ratio, install=False) as telemetry:
            span = telemetry.tracer_provider.get_tracer("t").start_span("s")
            assert span.is_recording() is recorded


def test_a_log_line_carries_trace_and_lane() -> None:
    record = logging.LogRecord("shop", logging.INFO, "f.py", 1, "hi", (), None)
    tracer = TracerProvider().get_tracer("t")
    with lane_scope("dev"), tracer.start_as_current_span("s") as span:
        line = json.loads(JsonFormatter().format(record))
    assert line["trace_id"] == f"{span.get_span_context().trace_id:032x}"
    assert line["lane"] == "dev"


def test_global_providers_send_to_the_endpoint_of_the_environment() -> None:
    """In a process of its own: a global provider cannot be taken back."""
    program = """
import http.server, os, threading
got = []
class Collector(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        got.append(self.path)
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200); self.end_headers()
    def log_message(self, *_): pass
server = http.server.HTTPServer(("127.0.0.1", 0), Collector)
threading.Thread(target=server.serve_forever, daemon=True).start()
os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"http://127.0.0.1:{server.server_port}"
from microservice_kit import setup_telemetry
from opentelemetry import metrics, trace
with setup_telemetry("orders"):
    with trace.get_tracer("t").start_as_current_span("s"):
        metrics.get_meter("t").create_counter("c").add(1)
print(sorted(set(got)))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=50
    )
    assert done.stdout.strip() == "['/v1/metrics', '/v1/traces']"


@pytest.fixture
def collector() -> Iterator[tuple[str, list[str]]]:
    """The address of something that takes OTLP over HTTP, and the paths it was sent to."""
    paths: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            paths.append(self.path)
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", paths
    server.shutdown()
    thread.join()
    server.server_close()


def test_what_waits_is_sent_at_the_end(
    collector: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint, paths = collector
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
    with setup_telemetry("orders", install=False) as telemetry:
        telemetry.tracer_provider.get_tracer("t").start_span("s").end()
        telemetry.meter_provider.get_meter("t").create_counter("c").add(1)
    assert set(paths) == {"/v1/traces", "/v1/metrics"}
