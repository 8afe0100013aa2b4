"""An optional package that is not installed is named with the line that installs it."""

import sys

import pytest

from microservice_core import ConfigResult, MissingDependencyError
from microservice_kit import MicroserviceModule, setup_telemetry
from microservice_kit.calls.lanes import create_lane_parts
from microservice_kit.config.parsing import parse


def test_yaml_without_pyyaml(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    document = ConfigResult("a: 1", "", None, "yaml", "app.yaml", "", "")
    with pytest.raises(MissingDependencyError, match=r'pip install "microservice-kit\[yaml\]"'):
        parse(document)


def test_lanes_without_lane_router(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lane_router", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "microservice-kit\[lanes\]"'):
        create_lane_parts("permissive")


async def test_a_provider_whose_own_packages_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lite_registry.provider", None)
    microservice = MicroserviceModule(service_registry="lite")
    with pytest.raises(MissingDependencyError, match=r'pip install "microservice-kit\[lite\]"'):
        async with microservice:
            pytest.fail("it must not open")


async def test_lite_registry_opens_by_name_and_asks_for_its_url() -> None:
    microservice = MicroserviceModule(service_registry="lite")
    with pytest.raises(ValueError, match="url"):
        async with microservice:
            pytest.fail("it must not open")


async def test_a_redis_to_watch_without_redis_py(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis.asyncio", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "microservice-kit\[redis\]"'):
        async with MicroserviceModule(redis_url="redis://127.0.0.1"):
            pytest.fail("it must not open")


@pytest.mark.parametrize(
    ("missing", "endpoint", "extras"),
    [
        (["opentelemetry.sdk"], "", "otel"),
        (["opentelemetry.sdk", "opentelemetry.exporter.prometheus"], "", "prometheus"),
        (["opentelemetry.exporter.prometheus"], "", "prometheus"),
        (
            ["opentelemetry.exporter.otlp.proto.http", "opentelemetry.exporter.prometheus"],
            "http://127.0.0.1:9",
            "otel,prometheus",
        ),
    ],
)
def test_telemetry_names_every_missing_extra_at_once(
    missing: list[str], endpoint: str, extras: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
    for module in missing:
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingDependencyError) as caught:
        setup_telemetry("orders", prometheus=True, install=False)
    assert caught.value.install == f"microservice-kit[{extras}]"
