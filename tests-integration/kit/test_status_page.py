"""The page `/microservice` in a real browser: shows, follows, compares, rolls back, keeps shut."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import uvicorn
from chromium import Browser
from pydantic import BaseModel

import lane_router
from microservice_client import ServiceCallError, ServicePolicy
from microservice_core import InMemoryConfigCenter, InMemoryServiceRegistry, ServiceInstance
from microservice_kit import Microservice, circuit_breaker

pytestmark = pytest.mark.timeout(120)

TOKEN = "schlüssel-7"
HOSTILE = "<img src=x onerror=document.title='taken'>"
DOCUMENT = "orders.json"


class Settings(BaseModel):
    greeting: str = "hello"


class QuietServer(uvicorn.Server):
    """Leaves the signals of the test's process alone."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def listening(port: int = 0) -> socket.socket:
    """Bound at once, so that nobody else gets the port in between."""
    return socket.create_server(("127.0.0.1", port))


@contextlib.asynccontextmanager
async def served(app: Any, listener: socket.socket | None = None) -> AsyncIterator[int]:
    """The port of an application that really listens."""
    listener = listener or listening()
    server = QuietServer(uvicorn.Config(app, log_level="warning"))
    task = asyncio.ensure_future(server.serve(sockets=[listener]))
    async with asyncio.timeout(10):
        while not server.started:
            assert not task.done()
            await asyncio.sleep(0)
    yield listener.getsockname()[1]
    server.should_exit = True
    await task


async def stock(scope: Any, receive: Any, send: Any) -> None:
    """Answers with the status that its path says."""
    status = int(scope["path"][1:])
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": b""})


async def nothing(scope: Any, receive: Any, send: Any) -> None:
    """An application of which only the kit's part is looked at."""
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})


class Stage:
    """A service with a status page, and two instances of another one that it calls."""

    def __init__(self, port: int = 0) -> None:
        self.listener = listening(port)
        self.port = port = self.listener.getsockname()[1]
        self.center = InMemoryConfigCenter({DOCUMENT: '{"greeting": "hello", "pool": {"size": 5}}'})
        self.registry = InMemoryServiceRegistry()
        self.micro = Microservice(
            app=nothing,
            service_name="orders",
            host="127.0.0.1",
            port=port,
            version="1.4.0",
            zone="eu-1",
            metadata={"team": "checkout", "api_token": "hunter2"},
            config_center=self.center,
            config=Settings,
            documents=[DOCUMENT],
            service_registry=self.registry,
            lanes="permissive",
            policies={"stock": ServicePolicy(attempts=2, backoff_seconds=0, breaker_failures=3)},
            status_page=True,
            management_token=TOKEN,
            leave_seconds=0,
        )
        self.url = f"http://127.0.0.1:{port}/microservice"

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator["Stage"]:
        async with served(stock) as port, served(stock) as other:
            await self.add("stock", port, version="2.1.0", zone="eu-1")
            await self.add("stock", other, version="2.2.0", zone="eu-1", lane="dev")
            async with served(self.micro, self.listener):
                yield self

    async def add(self, service: str, port: int, **metadata: str) -> None:
        await self.registry.register(ServiceInstance(service, "127.0.0.1", port, metadata=metadata))

    async def publish(self, **values: object) -> None:
        await self.center.publish_config(DOCUMENT, json.dumps(values))

    def in_force(self) -> tuple[str, int | None]:
        return self.micro.config.current.greeting, self.micro.config.pinned

    async def call(self, path: str, *, lane: str = "") -> None:
        scope = lane_router.lane_scope(lane) if lane else contextlib.nullcontext()
        with scope, contextlib.suppress(ServiceCallError):
            await self.micro.client.get("stock", path, params={"secret": "hunter2"})


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    async with Stage().open() as stage:
        yield stage


@pytest.fixture
async def entered(stage: Stage, browser: Browser) -> Stage:
    """The page with the token given."""
    await browser.open(stage.url)
    await browser.size(1180, 1400)
    await enter(browser, TOKEN)
    await browser.shows("live", within="#live")
    return stage


async def enter(browser: Browser, token: str) -> None:
    await browser.shows("Paste the management token")
    await browser.write_in("#token", token)
    await browser.click("Show the status")


async def test_the_page_shows_nothing_without_the_token(stage: Stage, browser: Browser) -> None:
    await browser.open(stage.url)
    await enter(browser, "guessed")
    page = await browser.shows("That is not the token of this service.")
    await browser.picture("door")
    assert "orders" not in page
    await enter(browser, TOKEN)
    await browser.shows("orders", "Configuration", "version 1 is in force")
    await browser.tell("Page.reload")
    await browser.shows("version 1 is in force")  # the tab keeps the token
    await browser.click("Leave")
    page = await browser.shows("Paste the management token")
    assert "version 1" not in page
    assert await browser.value("sessionStorage.length + document.cookie.length") == 0
    assert [one for one in browser.problems if "401" not in one] == []


async def test_the_page_shows_what_the_process_knows(entered: Stage, browser: Browser) -> None:
    circuit_breaker("payments")
    for path in ("/200", "/404", "/503", "/200"):
        await entered.call(path)
    await entered.call("/200", lane="dev")
    await entered.call("/200", lane="blue")
    await browser.shows(
        "2 of 2 instances up", "version 2.2.0", "lane dev", "closed", within="#services"
    )
    calls = await browser.shows("GET /404", "503", "dev", "blue", within="#calls")
    assert "hunter2" not in calls
    await browser.shows("stock", "base", "dev", within="#lanes")
    await browser.shows("payments", "closed", within="#breakers")
    await browser.shows("config", "service_registry", "1 registered", within="#checks")
    registered = await browser.shows(
        "in rotation", f"127.0.0.1:{entered.port}", within="#registrations"
    )
    assert "version 1.4.0" in registered
    assert "hunter2" not in registered
    await browser.picture("light")
    await browser.write_in("#filter", "/404")
    await browser.shows("1 of 6", within="#calls-count")
    assert browser.problems == []


async def test_what_goes_wrong_shows_by_itself(entered: Stage, browser: Browser) -> None:
    await entered.publish(greeting=["no text"])
    await browser.shows("'orders.json' is invalid: greeting", within="#notes")
    entered.micro.module.health.add("disk", lambda: 1 / 0)
    await browser.shows("down", within="#status")
    await browser.shows("disk", "ZeroDivisionError", within="#checks")
    for _ in range(6):
        await entered.call("/500")
    await browser.shows("open", within="#services")
    (base, _) = await entered.registry.get_instances("stock")
    await entered.registry.deregister(base)
    await browser.shows("1 of 1 instance up", within="#services")


async def test_a_rollback_is_shown_asked_for_done_and_ended(
    entered: Stage, browser: Browser
) -> None:
    await entered.publish(greeting="good evening", pool={"size": 9}, db={"password": "hunter2"})
    await browser.shows("version 2 is in force")
    diff = await browser.shows("greeting", '"hello"', '"good evening"', "******", within="#diff")
    assert "hunter2" not in diff
    await browser.click("Roll back", within="#versions")
    await browser.shows("Roll back to version 1?", "pool.size", within="#ask")
    await browser.picture("rollback")
    await browser.click("Cancel")
    assert entered.in_force() == ("good evening", None)
    await browser.click("Roll back", within="#versions")
    await browser.shows("pool.size", within="#ask")
    await browser.click("Roll back", within="#ask")
    await browser.shows("version 3 is in force", "Pinned to version 1")
    assert entered.in_force() == ("hello", 1)
    await browser.picture("pinned")
    await browser.click("Follow the documents again")
    await browser.shows("version 4 is in force")
    assert entered.in_force() == ("good evening", None)
    assert browser.problems == []


async def test_two_versions_of_one_s_choice_are_compared(entered: Stage, browser: Browser) -> None:
    for version, size in ((2, 6), (3, 7), (4, 8)):
        await entered.publish(greeting="hello", pool={"size": size})
        await browser.shows(f"version {version} is in force")
    await browser.shows("7", "8", within="#diff")
    await browser.value(
        "(() => { const from = document.getElementById('from'); from.value = '1';"
        " from.dispatchEvent(new Event('change')); })()"
    )
    await browser.shows("5", "8", within="#diff")
    await entered.publish(greeting="hi")
    await browser.shows("version 5 is in force")
    assert "hi" not in await browser.shows("5", "8", within="#diff")  # the choice stays
    await browser.click("Changes", within="#versions")
    await browser.shows('"hi"', within="#diff")


async def test_no_text_from_outside_becomes_part_of_the_page(
    entered: Stage, browser: Browser
) -> None:
    await entered.registry.register(
        ServiceInstance(HOSTILE, "127.0.0.1", 1, metadata={HOSTILE: HOSTILE, "lane": HOSTILE})
    )
    await entered.publish(**{HOSTILE: HOSTILE})
    entered.micro.module.health.add(HOSTILE, lambda: HOSTILE)
    await entered.call("/200")
    await entered.micro.client.instances(HOSTILE)
    await browser.shows(HOSTILE, within="#services")
    await browser.shows(HOSTILE, within="#lanes")
    await browser.shows(HOSTILE, within="#diff")
    assert await browser.value("document.querySelectorAll('img').length") == 0
    assert await browser.value("document.title") == "orders · status"
    assert browser.problems == []
    # And if the page were wrong: markup from text is refused by the browser itself.
    assert "TrustedHTML" in await browser.value(
        "(() => { try { document.body.innerHTML = 'x'; } catch (error) { return String(error); } })()"
    )


async def test_a_service_that_is_gone_leaves_a_page_that_says_so(browser: Browser) -> None:
    stage = Stage()
    async with stage.open():
        await browser.open(stage.url)
        await enter(browser, TOKEN)
        await browser.shows("live", within="#live")
    await browser.shows("stale since", "does not answer", within="#live")
    await browser.shows("version 1 is in force")
    await browser.picture("stale")
    again = Stage(stage.port)
    async with again.open():  # another process, as far as the page can tell
        await again.publish(greeting="hi")
        await browser.shows("live", within="#live")
        await browser.shows("version 2 is in force", '"hi"')


async def test_a_rollback_meant_for_another_process_is_refused(browser: Browser) -> None:
    async with Stage().open() as stage:
        await browser.open(stage.url)
        await enter(browser, TOKEN)
        await stage.publish(greeting="hi")
        await browser.shows("version 2 is in force")
        await browser.click("Roll back", within="#versions")
        await browser.shows("Roll back to version 1?", "greeting", within="#ask")
    async with Stage(stage.port).open() as stage:
        await browser.shows("version 1 is in force")
        await browser.click("Roll back", within="#ask")
        await browser.shows("the state came from another process", within="#ask")
        assert stage.in_force() == ("hello", None)


async def test_a_phone_in_the_dark_shows_everything_in_its_width(
    entered: Stage, browser: Browser
) -> None:
    paper = "getComputedStyle(document.body).backgroundColor"
    light = await browser.value(paper)
    await entered.publish(greeting="x" * 400, **{"a.key-without-any-place-to-break-" * 4: 1})
    for path in ("/200", "/503", "/404"):
        await entered.call(path)
    await entered.call("/200", lane="dev")
    await browser.shows("GET /503", within="#calls")
    await browser.scheme("dark")
    assert await browser.value(paper) != light
    await browser.picture("dark")
    await browser.size(360, 2600, mobile=True)
    assert await browser.value("document.documentElement.scrollWidth <= 360")
    await browser.picture("phone")
