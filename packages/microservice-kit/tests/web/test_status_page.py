"""The status page without a browser: what is answered to whom, bounded, masked, and nothing more."""

import json
import logging
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, SecretStr

from microservice_client import NoInstanceCallError
from microservice_core import (
    InMemoryConfigCenter,
    InMemoryServiceRegistry,
    InvalidValueError,
    ServiceInstance,
)
from microservice_core.testing.clock import ManualClock, settle
from microservice_kit import Microservice, MicroserviceModule, OpenModule, circuit_breaker
from microservice_kit.web.responses import strip_root_path
from microservice_kit.web.status_page.page import LARGEST_BODY, StatusPage
from microservice_kit.web.status_page.state import (
    MAX_CHANGES,
    MAX_INSTANCES,
    MAX_SERVICES,
    MAX_TEXT,
)

TOKEN = "schlüssel-7"
BEARER = {b"authorization": b"Bearer " + TOKEN.encode()}
JSON = {"content-type": "application/json; charset=utf-8"}
API = "/microservice/api"


class Settings(BaseModel):
    greeting: str = "hello"
    dsn: SecretStr = SecretStr("")


def page_of(module: OpenModule[Any], **options: Any) -> StatusPage:
    return StatusPage(module, token=TOKEN, **options)


async def nothing(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 418, "headers": []})
    await send({"type": "http.response.body", "body": b"the application"})


class Stage:
    """A wrapped application whose page is on, and a client that has the token."""

    def __init__(self, **options: Any) -> None:
        self.center = InMemoryConfigCenter({"orders.json": '{"greeting": "hello"}'})
        self.registry = InMemoryServiceRegistry()
        self.micro = Microservice(
            app=nothing,
            config_center=self.center,
            config=Settings,
            documents=["orders.json"],
            service_registry=self.registry,
            leave_seconds=0,
            **{"status_page": True, "management_token": TOKEN, **options},
        )

    @asynccontextmanager
    async def open(self) -> AsyncIterator["Stage"]:
        transport = httpx.ASGITransport(self.micro)
        async with (
            self.micro.lifespan(self.micro),
            httpx.AsyncClient(
                transport=transport, base_url="http://t", headers=BEARER
            ) as self.http,
        ):
            yield self

    async def publish(self, **values: object) -> None:
        await self.center.publish_config("orders.json", json.dumps(values))
        await settle()

    async def state(self) -> Any:
        return (await self.http.get(f"{API}/state")).raise_for_status().json()

    async def diff(self, old: object, new: object) -> httpx.Response:
        return await self.http.get(f"{API}/diff", params={"old": str(old), "new": str(new)})

    async def rollback(self, content: str, **headers: str) -> httpx.Response:
        return await self.http.post(f"{API}/rollback", content=content, headers={**JSON, **headers})


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    async with Stage().open() as stage:
        yield stage


# switched on and off


async def test_without_being_asked_for_there_is_no_page() -> None:
    async with Stage(status_page=False).open() as stage:
        for path in ("/microservice", f"{API}/state"):
            assert (await stage.http.get(path)).text == "the application"


def test_a_page_that_is_off_is_not_even_imported() -> None:
    program = (
        "import asyncio, sys, microservice_kit\n"
        "async def main():\n"
        "    async with microservice_kit.Microservice(service_registry='memory').lifespan(None):\n"
        "        print([name for name in sys.modules if 'status_' in name and 'kit' in name])\n"
        "asyncio.run(main())"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "[]"


def test_a_page_without_a_token_is_refused_before_anything_is_opened() -> None:
    with pytest.raises(InvalidValueError, match="management_token must be a secret while status_p"):
        Microservice(status_page=True)


def test_the_environment_turns_it_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MICROSERVICE_STATUS_PAGE", "true")
    with pytest.raises(InvalidValueError, match="management_token"):
        Microservice()
    monkeypatch.setenv("MICROSERVICE_MANAGEMENT_TOKEN", TOKEN)
    assert Microservice().settings.status_page
    assert TOKEN not in repr(Microservice().settings)


async def test_an_application_that_cannot_mount_it_is_told_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    micro = Microservice(status_page=True, management_token=TOKEN)
    async with micro.lifespan(nothing):
        assert "no routes can be added to function for /health, " in caplog.text
        assert "/microservice" in caplog.text
        assert "wrap it: Microservice(app=...)" in caplog.text
    caplog.clear()
    async with Stage().open():
        assert caplog.text == ""


# who gets what


async def test_the_page_itself_holds_nothing_and_may_do_nothing_else(stage: Stage) -> None:
    del stage.http.headers["authorization"]
    assert (await stage.http.get("/microservice/")).status_code == 200
    answer = await stage.http.get("/microservice")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "orders.json" not in answer.text
    policy = dict(
        part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";")
    )
    assert policy["default-src"] == policy["form-action"] == policy["frame-ancestors"] == "'none'"
    assert policy["connect-src"] == "'self'"
    assert re.fullmatch(r"'sha256-[\w+/=]{44}'", policy["script-src"])
    assert policy["require-trusted-types-for"] == "'script'"
    assert answer.headers["cache-control"] == "no-store"
    assert "http://" not in answer.text
    assert "https://" not in answer.text


@pytest.mark.parametrize("header", ["", "Bearer ", "Bearer guessed", f"Basic {TOKEN}", TOKEN])
@pytest.mark.parametrize("path", ["state", "diff?old=1&new=1", "rollback", "resume"])
async def test_without_the_token_there_is_nothing(stage: Stage, header: str, path: str) -> None:
    own = {b"authorization": header.encode(), b"content-type": b"application/json"}
    for method in ("GET", "POST"):
        answer = await stage.http.request(
            method, f"{API}/{path}", content=b'{"version": 1}', headers=own
        )
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert answer.headers["content-type"] == "application/problem+json"
        assert TOKEN not in answer.text
    assert stage.micro.config.pinned is None


async def test_who_guesses_fills_no_log(caplog: pytest.LogCaptureFixture) -> None:
    clock = ManualClock()
    async with MicroserviceModule() as module:
        page = page_of(module, clock=clock)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(page)) as http:
            for _ in range(100):
                await http.get("http://t/api/state")
            clock.advance(60)
            await http.get("http://t/api/state")
    lines = [
        record.getMessage()
        for record in caplog.records
        if "without the management" in record.message
    ]
    assert [line.split()[0] for line in lines] == ["1", "100"]


async def test_wrong_methods_and_paths_are_said(stage: Stage) -> None:
    assert (await stage.http.post("/microservice")).status_code == 405
    assert (await stage.http.get(f"{API}/rollback")).json()["detail"] == "use POST"
    assert (await stage.http.post(f"{API}/state")).status_code == 405
    assert (await stage.http.head(f"{API}/state")).status_code == 200
    assert (await stage.http.get(f"{API}/nothing")).text == "the application"
    assert (await stage.http.get("/microservices")).text == "the application"


async def test_mounted_by_hand_it_says_what_there_is() -> None:
    async with MicroserviceModule() as module:
        transport = httpx.ASGITransport(page_of(module), root_path="/status")
        async with httpx.AsyncClient(transport=transport, headers=BEARER) as http:
            assert (await http.get("http://t/status")).text.startswith("<!doctype html>")
            assert (await http.get("http://t/status/api/state")).status_code == 200
            answer = await http.get("http://t/status/api/nothing")
            assert (answer.status_code, answer.json()["title"]) == (404, "No such page")
            assert "/api/rollback" in answer.json()["detail"]


async def test_a_websocket_is_closed(stage: Stage) -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    page = page_of(stage.micro.module)
    await page({"type": "websocket", "path": "/microservice"}, receive, send)
    assert sent == [{"type": "websocket.close", "code": 1008}]


@pytest.mark.parametrize(
    ("path", "root", "below"),
    [
        ("/microservice/api/state", "/microservice", "/api/state"),
        ("/api/state", "/microservice", "/api/state"),
        ("/behind/microservice", "/behind", "/microservice"),
        ("/microservice", "", "/microservice"),
        ("/microservice", "/micro", "/microservice"),
        ("/microservice", "/microservice", ""),
    ],
)
def test_the_path_below_the_mount_is_found(path: str, root: str, below: str) -> None:
    assert strip_root_path({"path": path, "root_path": root}) == below


async def test_behind_a_root_path_the_page_is_where_it_was(stage: Stage) -> None:
    transport = httpx.ASGITransport(stage.micro, root_path="/shop")
    async with httpx.AsyncClient(transport=transport, base_url="http://t") as http:
        assert "<!doctype html>" in (await http.get("/shop/microservice")).text
        assert (await http.get("/shop/health/live")).json() == {"status": "up"}


# what is shown


async def test_the_state_of_a_process_that_has_nothing() -> None:
    async with MicroserviceModule() as module:
        page = page_of(module, name="worker")
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(page), headers=BEARER, base_url="http://t"
        ) as http:
            state = (await http.get("/api/state")).json()
    assert state["process"]["service"] == "worker"
    assert (state["services"], state["calls"], state["registrations"]) == ([], [], [])
    assert state["config"]["versions"][0]["origin"] == "defaults"
    assert state["health"]["status"] == "up"


async def test_versions_and_what_differs_between_them(stage: Stage) -> None:
    await stage.publish(greeting="hi", dsn="hunter2", api_key="hunter2", sizes=[1, "1"], none=None)
    config = (await stage.state())["config"]
    assert (config["current"], config["pinned"], config["problem"]) == (2, None, None)
    assert [version["id"] for version in config["versions"]] == [2, 1]
    assert config["versions"][0]["documents"][0]["data_id"] == "orders.json"
    differences = (await stage.diff(1, 2)).json()
    assert {
        change["key"]: (change["kind"], change["old"], change["new"])
        for change in differences["changes"]
    } == {
        "api_key": ("added", None, "******"),
        "dsn": ("added", None, "******"),
        "greeting": ("changed", '"hello"', '"hi"'),
        "none": ("added", None, "null"),
        "sizes": ("added", None, '[1, "1"]'),
    }
    assert (await stage.diff(2, 2)).json()["changes"] == []


async def test_an_invalid_document_and_a_check_that_fails_show(stage: Stage) -> None:
    await stage.publish(greeting={"secret": "hunter2"})
    stage.micro.module.health.add("disk", lambda: 1 / 0)
    state = await stage.state()
    assert "greeting" in state["config"]["problem"]
    assert "hunter2" not in json.dumps(state)
    (disk,) = [check for check in state["health"]["checks"] if check["name"] == "disk"]
    assert (disk["status"], disk["detail"]) == ("down", "ZeroDivisionError")
    assert state["health"]["status"] == "down"


async def test_instances_lanes_breakers_and_calls_show(stage: Stage) -> None:
    circuit_breaker("status-payments")
    labels = {"version": "2", "lane": "dev", "zone": "eu", "api_token": "hunter2"}
    instance = ServiceInstance("stock", "127.0.0.1", 1, metadata=labels, instance_id="b")
    await stage.registry.register(instance)
    await stage.registry.register(
        ServiceInstance("stock", "::1", 1, healthy=False, instance_id="a")
    )
    for path in ("/v1/stock", "/v1/other"):
        with pytest.raises(httpx.TransportError):
            await stage.micro.client.get("stock", path, params={"password": "hunter2"})
    state = await stage.state()
    assert "hunter2" not in json.dumps(state)
    (stock,) = state["services"]
    assert stock["lanes"] == {"": 1, "dev": 1}
    ill, well = stock["instances"]
    assert (ill["address"], ill["healthy"], ill["breaker"]) == ("[::1]:1", False, "")
    assert (well["version"], well["lane"], well["zone"]) == ("2", "dev", "eu")
    assert well["metadata"] == {"api_token": "******"}
    assert well["breaker"] in {"closed", "open"}
    assert state["breakers"]["status-payments"] == "closed"
    newest, oldest = state["calls"]
    assert (newest["service"], newest["method"], newest["path"]) == ("stock", "GET", "/v1/other")
    assert (oldest["outcome"], oldest["instance"], oldest["lane"]) == ("CallFailedError", "b", "")
    assert oldest["attempts"][0] == "b ConnectError"
    assert newest["time"] >= oldest["time"]
    assert datetime.fromisoformat(newest["time"]).tzinfo is not None


async def test_what_is_registered_shows_with_its_state() -> None:
    labels = {"team": "checkout", "api_token": "hunter2"}
    options = {"service_name": "orders", "host": "10.0.0.7", "port": 8000, "metadata": labels}
    async with Stage(lane="dev", **options).open() as stage:
        await stage.micro.module.registrations[0].set_in_rotation(False)
        (orders,) = (await stage.state())["registrations"]
    assert (orders["service"], orders["address"], orders["lane"]) == (
        "orders",
        "10.0.0.7:8000",
        "dev",
    )
    assert (orders["registered"], orders["in_rotation"]) == (True, False)
    assert orders["metadata"]["team"] == "checkout"
    assert orders["metadata"]["api_token"] == "******"


async def test_the_last_200_calls_are_kept_and_looking_asks_no_registry(stage: Stage) -> None:
    for number in range(205):
        with pytest.raises(NoInstanceCallError):
            await stage.micro.client.get("nobody", f"/{number}")
    calls = (await stage.state())["calls"]
    assert (len(calls), calls[0]["path"], calls[0]["instance"]) == (200, "/204", "")


async def test_the_times_of_calls_stay_until_the_clock_jumps() -> None:
    now, clock = datetime(2026, 1, 1, tzinfo=UTC), ManualClock()
    async with MicroserviceModule(service_registry="memory") as module:
        page = page_of(module, clock=clock, wall_clock=lambda: now)
        with pytest.raises(NoInstanceCallError):
            await module.service_client.get("nobody", "/")

        async def time_of_the_call() -> str:
            async with httpx.AsyncClient(
                transport=httpx.ASGITransport(page), headers=BEARER
            ) as http:
                return str((await http.get("http://t/api/state")).json()["calls"][0]["time"])

        first = await time_of_the_call()
        now += timedelta(milliseconds=5)
        assert await time_of_the_call() == first
        now += timedelta(hours=1)
        later = datetime.fromisoformat(await time_of_the_call())
        assert later - datetime.fromisoformat(first) == timedelta(hours=1, milliseconds=5)


async def test_the_state_is_bounded_however_much_there_is(stage: Stage) -> None:
    for number in range(MAX_SERVICES + 10):
        await stage.registry.register(ServiceInstance(f"s{number:03}", "10.0.0.1", 1))
    for number in range(MAX_INSTANCES + 10):
        labels = {f"k{label}": "x" * 10_000 for label in range(50)} if number < 3 else {}
        instance = ServiceInstance("a", "10.0.0.1", 1, instance_id=f"{number:05}", metadata=labels)
        await stage.registry.register(instance)
    names = [f"s{number:03}" for number in range(MAX_SERVICES + 10)]
    await stage.micro.client.warm_up(["a", *names])
    state = await stage.state()
    assert (len(state["services"]), state["services_left_out"]) == (MAX_SERVICES, 11)
    first, second = state["services"][:2]
    assert (len(first["instances"]), first["instances_left_out"]) == (MAX_INSTANCES, 10)
    assert (second["instances"], second["instances_left_out"], second["lanes"]) == ([], 1, {"": 1})
    assert len(json.dumps(first["instances"][0])) < 20 * (MAX_TEXT + 20) + 200


async def test_a_difference_is_bounded_however_large_it_is(stage: Stage) -> None:
    await stage.publish(
        **{f"k{number:04}": number for number in range(MAX_CHANGES + 3)}, a="x" * 9999
    )
    differences = (await stage.diff(1, 2)).json()
    assert (len(differences["changes"]), differences["left_out"]) == (MAX_CHANGES, 5)
    assert len(differences["changes"][0]["new"]) == MAX_TEXT + 3


# going back


async def test_a_rollback_goes_back_and_resume_ends_it(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    await stage.publish(greeting="hi")
    process = (await stage.state())["process"]["id"]
    answer = await stage.rollback(json.dumps({"version": 1, "process": process}))
    assert answer.json() == {"version": 3, "pinned": 1}
    assert stage.micro.config.current.greeting == "hello"
    assert "rolled back to version 1 on the status page by 127.0.0.1" in caplog.text
    assert (await stage.state())["config"]["pinned"] == 1
    answer = await stage.http.post(f"{API}/resume", json={})
    assert answer.json() == {"version": 4, "pinned": None}
    assert stage.micro.config.current.greeting == "hi"


@pytest.mark.parametrize(
    ("content", "status", "detail"),
    [
        ('{"version": 9}', 404, "version must be one that is kept: 1, 2, not 9"),
        ('{"version": true}', 400, "version must be the id of a version, a whole number"),
        ('{"version": 1.0}', 400, "version must be the id of a version, a whole number"),
        ('{"version": "one"}', 400, "version must be the id of a version, a whole number"),
        ("{}", 400, "version must be the id of a version, a whole number"),
        ("[1]", 400, 'send a JSON object such as {"version": 3}'),
        ("{", 400, 'send a JSON object such as {"version": 3}'),
        ("\udcff", 400, 'send a JSON object such as {"version": 3}'),
        ("[" * 4000, 400, 'send a JSON object such as {"version": 3}'),
        (
            '{"version": 1, "process": "other"}',
            409,
            "the state came from another process; load it again",
        ),
        (" " * (LARGEST_BODY + 1), 413, f"send at most {LARGEST_BODY} bytes"),
    ],
)
async def test_what_cannot_be_gone_back_to_is_one_clear_problem(
    stage: Stage, content: str, status: int, detail: str
) -> None:
    await stage.publish(greeting="hi")
    sent = content.encode("utf-8", "surrogateescape")
    answer = await stage.http.post(f"{API}/rollback", content=sent, headers=JSON)
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.status_code, answer.json()["detail"]) == (status, detail)
    assert (stage.micro.config.pinned, stage.micro.config.version.id) == (None, 2)


async def test_an_endless_body_is_not_read_to_its_end(stage: Stage) -> None:
    taken = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal taken
        while taken < 1000:
            taken += 1
            yield b" " * 1024

    answer = await stage.http.post(f"{API}/rollback", content=endless(), headers=JSON)
    assert answer.status_code == 413
    assert taken <= 6


async def test_a_form_of_another_page_is_no_rollback(stage: Stage) -> None:
    answer = await stage.rollback('{"version": 1}', **{"content-type": "text/plain"})
    assert answer.status_code == 415
    assert stage.micro.config.pinned is None


async def test_versions_that_are_no_numbers_have_no_difference(stage: Stage) -> None:
    for wrong in ("", "one", "-1", "1.5", "²"):
        assert (await stage.diff(1, wrong)).status_code == 400
    assert (await stage.diff(1, "9" * 5000)).status_code == 404
    assert (await stage.http.get(f"{API}/diff")).status_code == 400


text = st.text(max_size=20) | st.just("<script>alert(1)</script>")
value = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
)


@settings(max_examples=25, deadline=None)
@given(st.dictionaries(text.filter(bool), value, max_size=4))
async def test_any_configuration_can_be_shown(values: dict[str, object]) -> None:
    async with Stage().open() as stage:
        await stage.publish(greeting="hi", extra=values)
        answer = await stage.diff(1, 2)
        shown = json.loads(answer.content.decode(), parse_constant=pytest.fail)
        keys = {change["key"].partition(".")[0] for change in shown["changes"]}
        assert keys == {"greeting", "extra"}
