"""The provider as users meet it: found by name, its settings checked."""

from pathlib import Path

import pytest

from microservice_core import (
    InvalidValueError,
    ServiceCatalog,
    ServiceInstance,
    ServiceRegistryUnavailableError,
    open_service_registry,
)
from service_registry_template import JsonFolderServiceRegistry


async def test_it_opens_by_name(tmp_path: Path) -> None:
    settings = {"folder": str(tmp_path), "ttl_seconds": 30}
    async with open_service_registry("json-folder", settings) as registry:
        assert isinstance(registry, JsonFolderServiceRegistry)
        assert isinstance(registry, ServiceCatalog)
        await registry.register(ServiceInstance("orders", "10.0.0.7", 8000))
        assert await registry.list_services() == ["orders"]


async def test_opening_asks_nothing_of_the_engine(tmp_path: Path) -> None:
    async with open_service_registry("json-folder", {"folder": str(tmp_path / "no")}) as registry:
        with pytest.raises(ServiceRegistryUnavailableError):
            await registry.get_instances("orders")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "folder must be the path of a folder, not None"),
        ({"folder": "x", "ttl_seconds": "1"}, "ttl_seconds must be a number above 0, not '1'"),
        ({"folder": "x", "poll_seconds": True}, "poll_seconds must be a number above 0, not True"),
        ({"folder": "x", "ttl_seconds": 0}, "ttl_seconds must be a number above 0, not 0"),
        ({"path": "x"}, "must be one of folder, ttl_seconds, poll_seconds, not 'path'"),
    ],
)
async def test_a_wrong_setting_is_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidValueError, match=message):
        async with open_service_registry("json-folder", settings):
            pass
