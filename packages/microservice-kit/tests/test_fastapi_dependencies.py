"""The dependencies without FastAPI: plain functions."""

from microservice_core import InMemoryConfigCenter, ServiceInstance
from microservice_kit import MicroserviceModule
from microservice_kit.fastapi import (
    api_client,
    config_part,
    config_value,
    instance_of,
    open_module,
    service_client,
)
from microservice_kit.module import AnyConfig


class Db(AnyConfig):
    pool: int = 5


async def test_dependencies_return_the_open_parts() -> None:
    center = InMemoryConfigCenter({"app.json": '{"db": {"pool": 7}}'})
    async with MicroserviceModule(
        config_center=center, documents=["app.json"], service_registry="memory"
    ) as module:
        assert await open_module() is module
        assert await service_client() is module.service_client
        assert config_part(Db, "db")().pool == 7
        assert config_value("db.pool", 1)() == 7
        assert api_client(lambda client: (client,))() == (module.service_client,)
        await module.service_registry.register(ServiceInstance("orders", "a", 80))
        instance = await instance_of("orders")()
        assert instance.ip == "a"
