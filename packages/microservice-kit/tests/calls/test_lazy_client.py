"""The service client costs start-up nothing, and the first call little."""

import asyncio
import subprocess
import sys
from collections.abc import Callable
from typing import Self

import pytest

from microservice_client import AsyncServiceClient, ClientClosedError, NoInstanceCallError
from microservice_core import InMemoryConfigCenter, InMemoryServiceRegistry, ServiceInstance
from microservice_core.testing import eventually
from microservice_kit import MicroserviceModule, OpenModule
from microservice_kit.calls.lazy_client import LazyServiceClient


class OwnRegistry(InMemoryServiceRegistry):
    """One that is a context manager as well, and somebody else's."""

    entered = False
    closed = False

    async def __aenter__(self) -> Self:
        self.entered = True
        return self

    async def __aexit__(self, *_: object) -> None:
        self.closed = True


def build_module(**settings: object) -> MicroserviceModule:
    return MicroserviceModule(service_registry=InMemoryServiceRegistry(), **settings)  # type: ignore[arg-type]


def lazy_client_of(module: OpenModule) -> LazyServiceClient:
    assert module.parts.service_client is not None
    return module.parts.service_client


def test_start_up_imports_no_client_and_soon_after_it_is_there() -> None:
    program = (
        "import asyncio, sys\n"
        "from microservice_kit import MicroserviceModule\n"
        "async def main():\n"
        "    async with MicroserviceModule(service_registry='memory', config_center='memory'):\n"
        "        print('microservice_client' in sys.modules, 'httpx' in sys.modules)\n"
        "        while 'microservice_kit.calls.call_policies' not in sys.modules:\n"
        "            await asyncio.sleep(0.01)\n"
        "asyncio.run(asyncio.wait_for(main(), 30))\n"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "False False"


def test_a_process_forked_in_the_midst_of_the_import_can_import_it_too() -> None:
    program = (
        "import os, signal, sys, time\n"
        "from microservice_kit import MicroserviceModule\n"
        "with MicroserviceModule(service_registry='memory'):\n"
        "    while 'microservice_client' not in sys.modules:\n"
        "        time.sleep(0.001)\n"
        "    child = os.fork()\n"
        "    if child == 0:\n"
        "        signal.alarm(20)\n"
        "        from microservice_client import AsyncServiceClient\n"
        "        os._exit(0)\n"
        "    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "0"


async def until(check: Callable[[], object]) -> None:
    async def probe() -> object:
        return check()

    await eventually(probe, bool)


async def test_it_is_opened_unasked_and_is_the_one_that_is_asked_for() -> None:
    async with build_module() as module:
        await until(lambda: lazy_client_of(module).is_open)
        assert module.service_client is module.service_client


async def test_whoever_asks_at_once_gets_it_at_once() -> None:
    async with build_module() as module:
        client = module.service_client
        assert isinstance(client, AsyncServiceClient)
        await lazy_client_of(module).prepare()
        assert module.service_client is client
        with pytest.raises(NoInstanceCallError):
            await client.get("nobody", "/")


async def test_threads_get_the_same_one() -> None:
    async with build_module() as module:
        clients = await asyncio.gather(
            *(asyncio.to_thread(lambda: module.service_client) for _ in range(8))
        )
        assert set(map(id, clients)) == {id(module.service_client)}


async def test_a_policy_published_before_it_was_opened_counts() -> None:
    center = InMemoryConfigCenter({"application.json": "{}"})
    async with MicroserviceModule(
        service_registry=InMemoryServiceRegistry(),
        config_center=center,
        documents=["application.json"],
    ) as module:
        await center.publish_config("application.json", '{"calls": {"default": {"attempts": 1}}}')
        await until(lambda: module.config.current.model_extra)
        await module.service_registry.register(ServiceInstance("orders", "127.0.0.1", 1))
        with pytest.raises(Exception, match="every attempt failed") as caught:
            await module.service_client.get("orders", "/")
        assert len(caught.value.attempts) == 1  # type: ignore[attr-defined]


@pytest.mark.parametrize("prepared", [False, True])
async def test_after_the_end_it_refuses_every_call(prepared: bool) -> None:
    before = asyncio.all_tasks()
    async with build_module() as module:
        if prepared:
            await lazy_client_of(module).prepare()
    with pytest.raises(ClientClosedError):
        await module.service_client.get("orders", "/")
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before


async def test_a_registry_that_was_handed_in_stays_as_it_was() -> None:
    registry = OwnRegistry()
    async with MicroserviceModule(service_registry=registry) as module:
        await lazy_client_of(module).prepare()
    assert (registry.entered, registry.closed) == (False, False)
