import asyncio
import threading
from collections.abc import Callable

import httpx
import pytest

from microservice_core import (
    ConfigCenterUnavailableError,
    ConfigListener,
    ConfigResult,
    InMemoryConfigCenter,
    InMemoryServiceRegistry,
    InvalidValueError,
    MicroserviceError,
    ServiceInstance,
    ServiceRegistryUnavailableError,
    Unsubscribe,
)
from microservice_core.testing.clock import settle
from microservice_kit import Health, MicroserviceModule
from microservice_kit.web.management import ManagementApp


class TooSmallError(MicroserviceError):
    pass


async def test_plain_and_async_checks_say_up_or_down_and_why() -> None:
    def plain() -> str:
        return f"in {threading.current_thread() is threading.main_thread()}"

    async def refuses() -> None:
        raise TooSmallError("make it larger")

    def explodes() -> None:
        raise ValueError("password=hunter2")

    health = Health()
    for check in (plain, refuses, explodes):
        health.add(check.__name__, check)
    results = await health.check()
    assert (results["plain"].status, results["plain"].detail) == ("up", "in False")
    assert results["refuses"].detail == "TooSmallError: make it larger"
    assert results["explodes"].detail == "ValueError"
    await health.aclose()


async def test_a_check_that_hangs_is_down_after_its_time() -> None:
    health = Health()
    health.add("slow", asyncio.Event().wait, timeout_seconds=0.01)
    assert (await health.check())["slow"].detail == "no result within 0.01 s"


async def test_a_result_is_kept_for_a_while_and_asked_for_once() -> None:
    runs, now = 0, 0.0

    async def check() -> None:
        nonlocal runs
        runs += 1
        await settle()

    health = Health(cache_seconds=5, clock=lambda: now)
    health.add("check", check)
    await asyncio.gather(*(health.check() for _ in range(10)))
    assert runs == 1
    now = 4.9
    await health.check()
    assert runs == 1
    now = 5.1
    await health.check()
    assert runs == 2


async def test_who_stops_waiting_does_not_stop_the_check() -> None:
    go, ran = asyncio.Event(), []

    async def check() -> None:
        await go.wait()
        ran.append(True)

    health = Health()
    health.add("check", check)
    waiting = asyncio.ensure_future(health.check())
    await settle()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    go.set()
    await health.check()
    assert ran == [True]


async def test_ready_means_started_not_draining_and_every_critical_check_up() -> None:
    health, well = Health(cache_seconds=0), True

    def check() -> None:
        if not well:
            raise TooSmallError

    health.add("check", check)
    health.add("nice to have", lambda: 1 / 0, critical=False)
    assert not await health.ready()
    health.started = True
    assert await health.ready()
    well = False
    assert not await health.ready()
    well = True
    health.draining = True
    assert not await health.ready()


def test_checks_are_bounded_and_their_time_is_positive() -> None:
    health = Health()
    with pytest.raises(InvalidValueError, match="timeout_seconds must be a number above 0"):
        health.add("x", lambda: None, timeout_seconds=0)
    for number in range(64):
        health.add(str(number), lambda: None)
    health.add("0", lambda: None)
    with pytest.raises(InvalidValueError, match="at most 64"):
        health.add("one more", lambda: None)


async def request(health: Health, path: str, **options: object) -> httpx.Response:
    app = ManagementApp(health, token="s3cret")
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://t") as client:
        return await client.request(str(options.pop("method", "GET")), path, **options)  # type: ignore[arg-type]


def drains(health: Health) -> None:
    health.draining = True


def has_not_started(health: Health) -> None:
    health.started = False


def has_a_bad_check(health: Health) -> None:
    health.add("bad", lambda: 1 / 0)


def is_well(health: Health) -> None:
    pass


@pytest.mark.parametrize(
    ("path", "change", "status", "word"),
    [
        ("/health/live", drains, 200, "up"),
        ("/health/ready", is_well, 200, "up"),
        ("/health", is_well, 200, "up"),
        ("/health/ready", drains, 503, "out_of_service"),
        ("/health/ready", has_not_started, 503, "out_of_service"),
        ("/health", has_a_bad_check, 503, "down"),
    ],
)
async def test_probes_are_answered(
    path: str, change: Callable[[Health], None], status: int, word: str
) -> None:
    health = Health()
    health.started = True
    change(health)
    answer = await request(health, path)
    assert (answer.status_code, answer.json()["status"]) == (status, word)
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("header", "shown"),
    [
        ({}, False),
        ({"authorization": "Bearer s3cret"}, True),
        ({"authorization": "Bearer x"}, False),
    ],
)
async def test_details_are_for_who_shows_the_token(header: dict[str, str], shown: bool) -> None:
    health = Health()
    health.started = True
    health.add("disk", lambda: "80 % free")
    body = (await request(health, "/health", headers=header)).json()
    assert ("checks" in body) is shown
    if shown:
        assert body["checks"]["disk"]["detail"] == "80 % free"


async def test_only_reading_is_allowed() -> None:
    assert (await request(Health(), "/health", method="POST")).status_code == 405


async def test_a_module_shows_its_configuration_s_problem_without_going_out_of_service() -> None:
    center = InMemoryConfigCenter({"a.json": "{}"})
    async with MicroserviceModule(config_center=center, documents=["a.json"]) as module:
        await center.publish_config("a.json", "{")
        await settle()
        results = await module.health.check()
        assert results["config"].status == "down"
        assert "not valid JSON" in results["config"].detail
        assert await module.health.ready()


async def test_a_module_that_is_not_registered_yet_says_so_and_stays_ready() -> None:
    class Down(InMemoryServiceRegistry):
        async def register(self, instance: ServiceInstance) -> None:
            raise ServiceRegistryUnavailableError(
                "start it", provider="r", operation="register", retryable=True
            )

    async with MicroserviceModule(
        service_name="orders",
        host="10.0.0.7",
        port=8000,
        service_registry=Down(),
        on_registry_unavailable="degrade",
    ) as module:
        result = (await module.health.check())["service_registry"]
        assert result.status == "down"
        assert result.detail == "NotRegisteredError: not registered yet: orders"
        assert await module.health.ready()


async def test_a_module_that_started_without_its_center_says_what_is_in_force() -> None:
    class Gone(InMemoryConfigCenter):
        async def get_config(
            self, data_id: str, group_name: str = "", namespace_id: str = ""
        ) -> ConfigResult:
            raise ConfigCenterUnavailableError(
                "start it", provider="m", operation="get_config", retryable=True
            )

        def watch_config(
            self,
            data_id: str,
            listener: ConfigListener,
            group_name: str = "",
            namespace_id: str = "",
        ) -> Unsubscribe:
            return lambda: None

    async with MicroserviceModule(
        config_center=Gone(), documents=["a.json"], on_config_unavailable="degrade"
    ) as module:
        detail = (await module.health.check())["config"].detail
        assert "the configuration in use comes from: defaults" in detail
