"""An instance that the registry lists otherwise than it was registered is warned about, once."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from microservice_core import (
    InMemoryServiceRegistry,
    InstanceQuery,
    ServiceInstance,
    ServiceRegistryUnavailableError,
)
from microservice_core.testing.clock import ManualClock, settle
from microservice_kit.registration.registrar import Registrar

ANY_INSTANCE = InstanceQuery()
INSTANCE = ServiceInstance("orders", "10.0.0.7", 8000, weight=2.0, cluster_name="blue")
LOGGER = "microservice_kit.registration"


class Console(InMemoryServiceRegistry):
    """A registry in which an operator has changed what is listed."""

    def __init__(self, *, is_down: bool = False, **changes: Any) -> None:
        super().__init__()
        self._is_down = is_down
        self._changes = changes

    async def get_instances(
        self, service_name: str, query: InstanceQuery = ANY_INSTANCE
    ) -> Sequence[ServiceInstance]:
        if self._is_down:
            raise ServiceRegistryUnavailableError(
                "gone", provider="r", operation="get_instances", retryable=True
            )
        listed = await super().get_instances(service_name, query)
        return [replace(instance, **self._changes) for instance in listed]


async def read_warnings(
    registry: InMemoryServiceRegistry,
    caplog: pytest.LogCaptureFixture,
    *,
    warm_up_seconds: float = 0.0,
) -> list[str]:
    clock = ManualClock()
    registrar = Registrar(registry, sleep=clock.sleep, warm_up_seconds=warm_up_seconds)
    with caplog.at_level(logging.WARNING, LOGGER):
        await registrar.add(INSTANCE)
        for _ in range(30):
            await settle()
            clock.advance(10)
        await settle()
    await registrar.aclose()
    return [record.getMessage() for record in caplog.records if "is listed as" in record.message]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"enabled": False}, "listed as disabled:"),
        ({"weight": 0.5}, "listed as of weight 0.5, registered as 2:"),
        ({"weight": 0.0, "enabled": False}, "disabled and of weight 0, registered as 2:"),
    ],
)
async def test_a_change_of_an_operator_is_warned_about_once(
    changes: dict[str, Any], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    (line,) = await read_warnings(Console(**changes), caplog)
    assert line.startswith("orders at 10.0.0.7:8000 is listed as ")
    assert said in line


@pytest.mark.parametrize("warm_up_seconds", [0.0, 100.0])
async def test_an_instance_that_is_listed_as_it_was_registered_is_no_news(
    warm_up_seconds: float, caplog: pytest.LogCaptureFixture
) -> None:
    assert await read_warnings(Console(), caplog, warm_up_seconds=warm_up_seconds) == []


@pytest.mark.parametrize("registry", [Console(is_down=True), Console(ip="10.0.0.8")])
async def test_a_list_that_cannot_be_read_or_lacks_the_instance_says_nothing(
    registry: Console, caplog: pytest.LogCaptureFixture
) -> None:
    assert await read_warnings(registry, caplog) == []
