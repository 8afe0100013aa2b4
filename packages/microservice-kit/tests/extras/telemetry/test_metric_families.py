"""Each family of metrics has one owner, one unit, and boundaries that fit it."""

import subprocess
import sys

from prometheus_client.parser import text_string_to_metric_families

EVERYTHING = """
import asyncio, httpx
from fastapi import FastAPI
from microservice_client.testing import FakeMesh
from microservice_governance import LimitConfig
from microservice_kit import Microservice, TracingMiddleware, rate_limited, setup_telemetry
from nacos_client.testing import FakeNacosServer

async def main():
    telemetry = setup_telemetry("orders", prometheus=True)
    with FakeNacosServer() as server:
        settings = {
            "server_addr": server.address,
            "username": server.username,
            "password": server.password,
        }
        micro = Microservice(
            service_name="orders", host="127.0.0.1", port=1, telemetry=telemetry,
            config_center="nacos", config_center_settings=settings, documents=["a.yaml"],
            service_registry="nacos", service_registry_settings=settings,
            instance_metrics=True, lanes="permissive", leave_seconds=0.0,
            transport=httpx.MockTransport(lambda _: httpx.Response(200)),
        )
        app = FastAPI(lifespan=micro.lifespan)
        app.add_middleware(TracingMiddleware)

        @app.get("/")
        @rate_limited("all", LimitConfig(rate=100))
        async def call() -> int:
            return (await micro.client.get("orders", "/")).status_code

        transport = httpx.ASGITransport(app)
        async with (
            micro.lifespan(app),
            httpx.AsyncClient(transport=transport, base_url="http://t") as client,
        ):
            assert (await client.get("/")).json() == 200
            print((await client.get("/metrics")).text)

asyncio.run(main())
"""


def read_families(text: str) -> dict[str, set[float]]:
    """Return the boundaries of each family; a family that comes twice is refused."""
    lines = text.splitlines()
    names = [line.split()[2] for line in lines if line.startswith("# TYPE")]
    assert len(names) == len(set(names)), names
    families = {}
    for family in text_string_to_metric_families(text):
        assert family.type != "unknown", f"samples of {family.name} are announced by no family"
        families[family.name] = {
            float(sample.labels["le"]) for sample in family.samples if "le" in sample.labels
        }
    return families


def test_a_strict_parser_reads_the_metrics_of_everything_together() -> None:
    done = subprocess.run(
        [sys.executable, "-c", EVERYTHING], capture_output=True, text=True, check=True, timeout=120
    )
    families = read_families(done.stdout)
    assert {
        "http_client_request_duration_seconds",
        "http_server_request_duration_seconds",
        "nacos_client_operation_duration_seconds",
    } <= families.keys()
    for name, boundaries in families.items():
        if name.endswith("_seconds"):
            assert min(boundaries) == 0.005, name
            assert sorted(boundaries)[-2:] == [10, float("inf")], name
