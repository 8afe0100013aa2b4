"""Several modules in one process: which one is meant, and what an error says to do."""

import contextvars

import pytest

from microservice_core import InMemoryConfigCenter
from microservice_kit import (
    ConfigCenterValue,
    MicroserviceModule,
    NotEnabledError,
    current_module,
    use_module,
)


class Greeter:
    name = ConfigCenterValue("a.json", "name", default="nobody", type=str)


def named(name: str) -> MicroserviceModule:
    center = InMemoryConfigCenter({"a.json": f'{{"name": "{name}"}}'})
    return MicroserviceModule(config_center=center, documents=["a.json"])


async def test_use_module_says_which_one_is_meant() -> None:
    elsewhere = contextvars.copy_context()
    async with named("gateway") as gateway, named("orders") as orders:
        with use_module(gateway):
            assert current_module() is gateway
            assert Greeter().name == "gateway"
            with use_module(orders):
                assert Greeter().name == "orders"
            assert Greeter().name == "gateway"
        with pytest.raises(NotEnabledError, match=r"several are open.*with use_module\(module\)"):
            elsewhere.run(current_module)


async def test_a_closed_module_cannot_be_used() -> None:
    async with named("gateway") as gateway:
        pass
    with pytest.raises(NotEnabledError, match="it is closed"), use_module(gateway):
        pass
