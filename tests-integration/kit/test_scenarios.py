"""The same story on every provider: start, be found, be called, follow the configuration, leave."""

import asyncio
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import uuid4

import httpx
import pytest
from pydantic import BaseModel

from microservice_core import (
    ConfigPublisher,
    InMemoryConfigCenter,
    InMemoryServiceRegistry,
    open_config_center,
)
from microservice_core.testing import eventually
from microservice_kit import ConfigCenterValue, InvalidConfigError, MicroserviceModule, OpenModule

Start = Callable[..., subprocess.Popen[str]]


class Settings(BaseModel):
    greeting: str = "hello"


@dataclass(frozen=True, slots=True)
class Stage:
    """Where the story plays: what a module is opened with, and who publishes."""

    options: dict[str, object]
    center: ConfigPublisher
    service: str
    document: str

    def module(self, **more: object) -> MicroserviceModule[Settings]:
        return MicroserviceModule(
            service_name=self.service,
            host="127.0.0.1",
            config=Settings,
            documents=[self.document],
            **{**self.options, **more},  # type: ignore[arg-type]
        )

    async def publish(self, greeting: str) -> None:
        await self.center.publish_config(self.document, f'{{"greeting": {greeting}}}')


@asynccontextmanager
async def on_nacos(settings: dict[str, object], names: tuple[str, str]) -> AsyncIterator[Stage]:
    watching = {**settings, "config_poll_seconds": 1.0}
    finding = {**settings, "instance_poll_seconds": 0.5, "empty_hold_seconds": 1.0}
    async with open_config_center("nacos", watching) as center:
        assert isinstance(center, ConfigPublisher)
        options: dict[str, object] = {
            "config_center": "nacos",
            "config_center_settings": watching,
            "service_registry": "nacos",
            "service_registry_settings": finding,
        }
        yield Stage(options, center, *names)
        await center.delete_config(names[1])


@pytest.fixture(params=["memory", "lite", "nacos"])
async def stage(request: pytest.FixtureRequest) -> AsyncIterator[Stage]:
    names = (f"story-{uuid4().hex[:8]}", f"story-{uuid4().hex[:8]}.json")
    if request.param == "nacos":
        settings = request.getfixturevalue("nacos_settings")
        async with on_nacos(settings, names) as stage:
            await stage.publish('"welcome"')
            await eventually(lambda: readable(stage), bool)
            yield stage
        return
    center = InMemoryConfigCenter({names[1]: '{"greeting": "welcome"}'})
    registry: dict[str, object] = {"service_registry": InMemoryServiceRegistry()}
    if request.param == "lite":
        registry = lite_registry(request)
    yield Stage({"config_center": center, **registry}, center, *names)


def lite_registry(request: pytest.FixtureRequest) -> dict[str, object]:
    start, answers = request.getfixturevalue("start"), request.getfixturevalue("answers")
    port = request.getfixturevalue("free_port")
    url = f"http://127.0.0.1:{port}"
    answers(start("-m", "lite_registry", "serve", "--port", str(port)), f"{url}/healthz")
    return {"service_registry": "lite", "service_registry_settings": {"url": url}}


async def readable(stage: Stage) -> bool:
    async with stage.module(register=False) as module:
        return module.config.current.greeting == "welcome"


@asynccontextmanager
async def backend() -> AsyncIterator[int]:
    """A server that says what it was asked."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def found(caller: OpenModule[Settings], service: str) -> int:
    return len(await caller.service_registry.get_instances(service))


async def test_a_service_is_found_called_and_gone_after_its_end(stage: Stage) -> None:
    async with backend() as port, stage.module(register=False) as caller:
        async with stage.module(port=port, version="2", lane="dev"):
            await eventually(lambda: found(caller, stage.service), lambda count: count == 1)
            answer = await caller.service_client.get(stage.service, "/")
            assert answer.text == "hi"
            (instance,) = await caller.service_registry.get_instances(stage.service)
            assert (instance.version, instance.lane) == ("2", "dev")
        await eventually(lambda: found(caller, stage.service), lambda count: count == 0)


async def test_bad_health_takes_it_out_of_rotation_and_back(stage: Stage) -> None:
    well = True

    def disk() -> None:
        if not well:
            raise OSError

    async def usable() -> int:
        known = await caller.service_registry.get_instances(stage.service)
        return sum(one.enabled for one in known)

    async with (
        backend() as port,
        stage.module(register=False) as caller,
        stage.module(port=port, health_seconds=0.1) as module,
    ):
        module.health.add("disk", disk)
        await eventually(usable, lambda count: count == 1)
        well = False
        await eventually(usable, lambda count: count == 0, within_seconds=20)
        well = True
        await eventually(usable, lambda count: count == 1, within_seconds=20)


async def test_a_change_arrives_a_mistake_changes_nothing_and_the_way_back_is_open(
    stage: Stage,
) -> None:
    class Reader:
        greeting = ConfigCenterValue(stage.document, "greeting", default="none", type=str)

    async with stage.module(register=False) as module:
        config = module.config

        async def says(greeting: str) -> bool:
            return config.current.greeting == greeting

        await stage.publish('"good evening"')
        await eventually(lambda: says("good evening"), bool, within_seconds=10)
        assert Reader().greeting == "good evening"
        await stage.publish("[")

        async def problem() -> InvalidConfigError | None:
            return config.problem

        await eventually(problem, bool, within_seconds=10)
        assert config.current.greeting == "good evening"
        assert (await module.health.check())["config"].status == "down"
        config.rollback(1)
        assert config.current.greeting == "welcome"
        await config.publish_back(1)
        await eventually(lambda: says("welcome"), bool, within_seconds=10)

        async def published() -> bool:
            fresh = await module.config_center.get_config(stage.document)
            return "welcome" in fresh.content

        await eventually(published, bool, within_seconds=10)


async def test_a_registry_that_is_not_there_yet_is_waited_for(
    start: Start, answers: Callable[..., httpx.Response], free_port: int
) -> None:
    url = f"http://127.0.0.1:{free_port}"
    settings = {"url": url}
    microservice = MicroserviceModule(
        service_name="early",
        host="127.0.0.1",
        port=80,
        service_registry="lite",
        service_registry_settings=settings,
        on_registry_unavailable="degrade",
    )
    async with microservice as module:
        assert not module.registrations[0].registered
        server = start("-m", "lite_registry", "serve", "--port", str(free_port))
        await asyncio.to_thread(answers, server, f"{url}/healthz")

        async def registered() -> bool:
            return module.registrations[0].registered

        await eventually(registered, bool, within_seconds=40)
