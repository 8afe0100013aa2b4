"""The wire format of the route table: the same questions to the fake and to lite-registry itself."""

import contextlib
import json
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from lane_router import LaneRouter
from lane_router.testing import FakeRouteRegistry

Start = Callable[..., subprocess.Popen[str]]
Answers = Callable[..., httpx.Response]

ONE = {"orders": {"lanes": ["dev"], "port": 8000}}
TWO = {"orders": {"lanes": ["dev", "test"], "port": 8000}}
MANY = {f"service-{number}": {"lanes": ["dev"], "port": 8000} for number in range(50)}


class Registry:
    """lite-registry on a route file."""

    def __init__(self, start: Start, answers: Answers, folder: Path, port: int) -> None:
        self.file = folder / "routes.json"
        self.publish(ONE)
        self.url = f"http://127.0.0.1:{port}"
        self._arguments = ("-m", "lite_registry", "serve", "--source", "file", "--linger", "0",
                           "--file", str(self.file), "--port", str(port))  # fmt: skip
        self._start = start
        self._answers = answers
        self.start()

    def start(self) -> None:
        self.program = self._start(*self._arguments)
        self._answers(self.program, f"{self.url}/readyz")

    def publish(self, services: object) -> None:
        beside = self.file.with_suffix(".new")
        beside.write_text(json.dumps({"services": services}))
        beside.replace(self.file)

    def signal(self, number: int) -> None:
        self.program.send_signal(number)


@pytest.fixture
def registry(start: Start, answers: Answers, tmp_path: Path, free_port: int) -> Registry:
    return Registry(start, answers, tmp_path, free_port)


@pytest.fixture(params=["fake", "lite-registry"])
def either(request: pytest.FixtureRequest) -> Iterator[FakeRouteRegistry | Registry]:
    if request.param == "fake":
        with FakeRouteRegistry(ONE) as fake:
            yield fake
    else:
        yield request.getfixturevalue("registry")


def until(condition: Callable[[], bool], within_seconds: float = 40.0) -> None:
    deadline = time.monotonic() + within_seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def test_a_table_has_a_version_an_etag_and_is_not_sent_again(
    either: FakeRouteRegistry | Registry,
) -> None:
    with httpx.Client(base_url=either.url, trust_env=False) as client:
        first = client.get("/v1/routes")
        document = first.json()
        assert document["services"]["orders"]["lanes"] == ["dev"]
        assert first.headers["etag"] == f'W/"{document["version"]}"'
        assert first.headers["age"].isdigit()
        same = client.get("/v1/routes", headers={"if-none-match": first.headers["etag"]})
        assert (same.status_code, same.content) == (304, b"")
        query = {"watch": "1", "version": document["version"], "timeout": "1s"}
        assert client.get("/v1/routes", params=query, timeout=10).status_code == 304
        query["version"] = "another"
        assert client.get("/v1/routes", params=query).status_code == 200


def test_a_table_is_compressed_for_who_asks_and_the_router_reads_it(
    either: FakeRouteRegistry | Registry,
) -> None:
    either.publish(MANY)

    def get_compressed() -> httpx.Response:
        headers = {"accept-encoding": "gzip"}
        return httpx.get(f"{either.url}/v1/routes", headers=headers, trust_env=False)

    until(lambda: "service-7" in get_compressed().text)
    assert get_compressed().headers["content-encoding"] == "gzip"
    assert "accept-encoding" in get_compressed().headers["vary"].lower()
    with LaneRouter(either.url) as router:
        until(lambda: router.resolve("service-7", "dev").outcome == "lane")


def test_who_waits_is_answered_when_it_changes(either: FakeRouteRegistry | Registry) -> None:
    version = httpx.get(f"{either.url}/v1/routes", trust_env=False).json()["version"]
    answers: list[httpx.Response] = []

    def wait() -> None:
        query = {"watch": "1", "version": version, "timeout": "55s"}
        url = f"{either.url}/v1/routes"
        answers.append(httpx.get(url, params=query, timeout=60, trust_env=False))

    thread = threading.Thread(target=wait)
    thread.start()
    either.publish(TWO)
    thread.join(50)
    assert answers[0].json()["services"]["orders"]["lanes"] == ["dev", "test"]


def test_a_router_follows_a_real_registry_through_pause_crash_and_loss(registry: Registry) -> None:
    with LaneRouter(
        registry.url,
        services={"orders": 8000},
        watch_seconds=1.0,
        timeout_seconds=1.0,
        poll_seconds=1.0,
        confirm_seconds=0.5,
    ) as router:
        assert router.wait_ready()
        assert router.resolve("orders", "dev").outcome == "lane"
        registry.publish(TWO)
        until(lambda: router.resolve("orders", "test").outcome == "lane")
        # paused: connections are taken and not answered
        registry.signal(signal.SIGSTOP)
        until(lambda: router.problem != "")
        for _ in range(1000):
            assert router.resolve("orders", "dev").outcome == "lane"
        registry.signal(signal.SIGCONT)
        until(lambda: router.problem == "")
        # killed, and back with other routes
        registry.signal(signal.SIGKILL)
        registry.program.wait()
        until(lambda: router.problem != "")
        assert router.resolve("orders", "test").outcome == "lane"
        registry.publish(MANY | ONE)
        registry.start()
        until(lambda: router.resolve("service-7", "dev").outcome == "lane")
        # the file is broken: the registry keeps its last good table, and so do we
        registry.file.write_text("{")
        registry.publish({})
        until(lambda: router.resolve("service-7", "dev").outcome == "foreign")
        assert router.resolve("orders", "dev").outcome == "base_fallback"
    with contextlib.suppress(ProcessLookupError):
        registry.signal(signal.SIGTERM)
