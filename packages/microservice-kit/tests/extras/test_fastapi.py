import httpx
from fastapi import FastAPI
from pydantic import BaseModel

from microservice_core import InMemoryConfigCenter, InMemoryServiceRegistry
from microservice_core.testing.clock import settle
from microservice_kit import Microservice


class AppConfig(BaseModel):
    greeting: str = "hello"


async def test_a_fastapi_app_reads_a_setting_that_changes_while_it_runs() -> None:
    center = InMemoryConfigCenter({"greeter.yaml": "greeting: hi"})
    registry = InMemoryServiceRegistry()
    micro = Microservice(
        service_name="greeter",
        host="10.0.0.7",
        port=8000,
        config_center=center,
        service_registry=registry,
        config=AppConfig,
    )
    app = FastAPI(lifespan=micro.lifespan)

    @app.get("/hello/{name}")
    async def hello(name: str) -> str:
        return f"{micro.config.current.greeting}, {name}"

    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://app") as http,
    ):
        assert (await http.get("/hello/Ada")).json() == "hi, Ada"
        await center.publish_config("greeter.yaml", "greeting: good evening")
        await settle()
        assert (await http.get("/hello/Ada")).json() == "good evening, Ada"
        assert len(await registry.get_instances("greeter")) == 1
    assert await registry.get_instances("greeter") == ()
