"""Every example, started as its README says, on ports of its own."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from uuid import uuid4

import httpx
import pytest
from redis import Redis
from required_servers import read_variable

from microservice_core import ConfigPublisher, ServiceInstance, open_config_center

ROOT = Path(__file__).resolve().parent.parent.parent

Program = subprocess.Popen[str]
Start = Callable[..., Program]
Answers = Callable[..., httpx.Response]
Port = Callable[[], int]

CLEAN_END = {0, -signal.SIGTERM}


@dataclass(frozen=True, slots=True)
class Registry:
    """A lite-registry in a process of its own."""

    url: str

    @property
    def environment(self) -> dict[str, str]:
        """Sends an example there instead of to the port its README names."""
        return {
            "MICROSERVICE_SERVICE_REGISTRY": "lite",
            "MICROSERVICE_SERVICE_REGISTRY_SETTINGS": json.dumps({"url": self.url}),
            "MICROSERVICE_LEAVE_SECONDS": "0.5",
        }

    def ports(self, service: str) -> list[int]:
        """Where that service is offered now."""
        answer = httpx.get(f"{self.url}/v1/instances/{service}", trust_env=False).json()
        return [one["port"] for one in answer["instances"]]

    def register(self, instance: ServiceInstance) -> None:
        """Somebody else's instance."""
        path = f"/v1/instances/{instance.service_name}/{instance.instance_id}"
        document = {"ip": instance.ip, "port": instance.port, "ttl_seconds": 600}
        httpx.put(self.url + path, json=document, trust_env=False).raise_for_status()


@pytest.fixture
def registry(start: Start, answers: Answers, free_tcp_port_factory: Port) -> Registry:
    port = free_tcp_port_factory()
    url = f"http://127.0.0.1:{port}"
    answers(start("-m", "lite_registry", "serve", "--port", str(port)), f"{url}/healthz")
    return Registry(url)


def environment_file(name: str) -> dict[str, str]:
    """What `set -a; . NAME` puts into the environment."""
    lines = (ROOT / "examples" / name).read_text().splitlines()
    words = (shlex.split(line, comments=True) for line in lines)
    return dict(word.split("=", 1) for line in words for word in line)


def uvicorn(
    start: Start, folder: str, name: str, port: int, environment: Mapping[str, str]
) -> Program:
    """The application as its README starts it."""
    arguments = ("-m", "uvicorn", "--app-dir", f"examples/{folder}", f"{name}:app")
    return start(*arguments, "--port", str(port), environment=environment)


def until(holds: Callable[[], bool], within_seconds: float = 30) -> None:
    """Wait for the condition."""
    deadline = time.monotonic() + within_seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.05)


def terminated(program: Program) -> int:
    program.terminate()
    return program.wait(20)


def test_the_hello_service_answers(start: Start, answers: Answers, free_port: int) -> None:
    program = uvicorn(start, "hello", "app", free_port, {})
    answer = answers(program, f"http://127.0.0.1:{free_port}/hello/Ada")
    assert answer.json() == "hello, Ada"
    assert terminated(program) in CLEAN_END


def folder_of_documents(folder: Path) -> dict[str, str]:
    """Sends an example to that folder instead of the one its README names."""
    settings = {"folder": str(folder), "poll_seconds": 0.2}
    return {
        "MICROSERVICE_CONFIG_CENTER": "file",
        "MICROSERVICE_CONFIG_CENTER_SETTINGS": json.dumps(settings),
    }


def write(folder: Path, name: str, content: str) -> None:
    """Replace a document as a whole."""
    draft = folder / "draft"
    draft.write_text(content)
    draft.replace(folder / name)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """An environment file with the addresses of this run, and what publishes there."""

    environment: Mapping[str, str]
    publish: Callable[[str, str], None]


@pytest.fixture
def lite_surroundings(registry: Registry, tmp_path: Path) -> Surroundings:
    file = environment_file("service_pair/lite.env")
    environment = file | registry.environment | folder_of_documents(tmp_path)
    assert environment.keys() - file.keys() == {"MICROSERVICE_LEAVE_SECONDS"}
    return Surroundings(environment, lambda name, content: write(tmp_path, name, content))


@pytest.fixture
def nacos_surroundings(nacos_settings: dict[str, object]) -> Iterator[Surroundings]:
    group = f"examples-{uuid4().hex[:8]}"

    async def publish(name: str, content: str) -> None:
        async with open_config_center("nacos", nacos_settings) as center:
            assert isinstance(center, ConfigPublisher)
            if content:
                await center.publish_config(name, content, group)
            else:
                await center.delete_config(name, group)

    environment = environment_file("service_pair/nacos.env") | {
        "NACOS_SERVER_ADDR": str(nacos_settings["server_addr"]),
        "MICROSERVICE_GROUP_NAME": group,
        "MICROSERVICE_CONFIG_CENTER_SETTINGS": '{"config_poll_seconds": 1.0}',
        "MICROSERVICE_LEAVE_SECONDS": "0.5",
    }
    yield Surroundings(environment, lambda name, content: asyncio.run(publish(name, content)))
    asyncio.run(publish("orders.yaml", ""))


@pytest.mark.parametrize("where", ["lite", "nacos"])
def test_the_pair_is_the_same_on_lite_registry_and_on_nacos(
    where: str,
    start: Start,
    answers: Answers,
    free_tcp_port_factory: Port,
    request: pytest.FixtureRequest,
) -> None:
    surroundings: Surroundings = request.getfixturevalue(f"{where}_surroundings")
    ports = {name: free_tcp_port_factory() for name in ("inventory", "orders")}
    surroundings.publish("orders.yaml", "most_pieces: 2")
    pair = [
        uvicorn(start, "service_pair", name, port, surroundings.environment)
        for name, port in ports.items()
    ]
    for program, port in zip(pair, ports.values(), strict=True):
        answers(program, f"http://127.0.0.1:{port}/health/ready")

    def order(pieces: int) -> int:
        url = f"http://127.0.0.1:{ports['orders']}/orders/pear"
        return httpx.post(url, params={"pieces": pieces}, trust_env=False, timeout=15).status_code

    until(lambda: order(2) == 200)
    assert order(3) == 422
    surroundings.publish("orders.yaml", "most_pieces: 9")
    until(lambda: order(3) == 200)
    assert order(4) == 409
    assert {terminated(program) for program in pair} <= CLEAN_END


def test_a_script_reads_its_configuration_calls_by_name_and_ends(
    start: Start, answers: Answers, registry: Registry, free_port: int, tmp_path: Path
) -> None:
    uvicorn(start, "service_pair", "inventory", free_port, registry.environment)
    until(lambda: registry.ports("inventory") == [free_port])

    def said() -> str:
        done = subprocess.run(
            [sys.executable, "examples/script/report.py"],
            cwd=ROOT,
            env={**os.environ, **registry.environment, **folder_of_documents(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert said() == "pear: 3 in stock\n"
    write(tmp_path, "report.yaml", "article: apple\n")
    assert said() == "apple: 12 in stock\n"
    assert registry.ports("report") == []


def redis_url() -> str:
    return read_variable("REDIS_URL")


@pytest.mark.parametrize("registered", [False, True])
def test_a_worker_follows_its_configuration_and_loses_nothing_on_sigterm(
    registered: bool, start: Start, registry: Registry, free_port: int, tmp_path: Path
) -> None:
    names = {key: f"{key.lower()}-{uuid4().hex[:8]}" for key in ("STREAM", "DONE")}
    environment = {"REDIS_URL": redis_url(), **names, **folder_of_documents(tmp_path)}
    if registered:
        environment |= {**registry.environment, "MICROSERVICE_PORT": str(free_port)}
    with Redis.from_url(redis_url(), decode_responses=True) as redis:

        def shipped(*orders: str) -> list[str]:
            for order in orders:
                redis.xadd(names["STREAM"], {"order": order})
            return list(redis.lrange(names["DONE"], 0, -1))

        try:
            shipped("1")
            worker = start("examples/worker/shipping.py", environment=environment)
            until(lambda: shipped() == ["1 by post"])
            assert registry.ports("shipping") == [free_port] * registered
            write(tmp_path, "shipping.yaml", "carrier: bike\n")
            until(lambda: "2 by bike" in shipped("2"))
            shipped(*map(str, range(3, 203)))
            assert terminated(worker) == 0
            assert registry.ports("shipping") == []
            group = redis.xinfo_groups(names["STREAM"])[0]
            assert group["pending"] == 0
            assert len(shipped()) == group["entries-read"]
        finally:
            redis.delete(*names.values())


def test_a_lane_three_hops_deep_exists_only_at_the_last(start: Start) -> None:
    done = subprocess.run(
        [sys.executable, "examples/lanes/show.py"],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    readme = (ROOT / "examples/lanes/README.md").read_text()
    promised = readme.split("```text\n")[1].split("```")[0]
    assert done.stdout == promised


@contextmanager
def price_list() -> Iterator[int]:
    """The inventory of the migration: every article costs 200 cents."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-length", "3")
            self.end_headers()
            self.wfile.write(b"200")

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@pytest.mark.parametrize(
    "step", ["before", "step1_registered", "step2_configured", "step3_by_name", "after"]
)
def test_each_step_of_the_migration_runs_and_answers_the_same(
    step: str, start: Start, answers: Answers, registry: Registry, free_port: int
) -> None:
    with price_list() as inventory:
        registry.register(ServiceInstance("inventory", "127.0.0.1", inventory))
        environment = registry.environment | {
            "INVENTORY_URL": f"http://127.0.0.1:{inventory}",
            "SHOP_DISCOUNT": "10",
        }
        program = uvicorn(start, "migration", step, free_port, environment)
        answer = answers(program, f"http://127.0.0.1:{free_port}/price/pear")
        assert answer.json() == {"article": "pear", "cents": 180}
        if step != "before":
            until(lambda: registry.ports("shop") == [free_port])
        assert terminated(program) in CLEAN_END
        assert registry.ports("shop") == []


WSGI = {
    "flask_gunicorn": ("-m", "gunicorn", "--config", "examples/flask_gunicorn/gunicorn.conf.py",
                       "--bind", "127.0.0.1:{port}"),
    "django_wsgi": ("examples/django_wsgi/shop.py",),
}  # fmt: skip


@pytest.mark.parametrize("name", WSGI)
def test_a_wsgi_application_is_registered_called_and_leaves_first(
    name: str, start: Start, answers: Answers, registry: Registry, free_port: int
) -> None:
    arguments = [one.format(port=free_port) for one in WSGI[name]]
    environment = {**registry.environment, "PORT": str(free_port), "APP_GREETING": "welcome"}
    program = start(*arguments, environment=environment | {"MICROSERVICE_LEAVE_SECONDS": "3"})
    url = f"http://127.0.0.1:{free_port}"
    assert answers(program, f"{url}/hello/Ada").json() == {"said": "welcome, Ada"}
    until(lambda: registry.ports("greeter") == [free_port])
    relayed = httpx.get(f"{url}/relayed/Ada", trust_env=False, timeout=15)
    assert relayed.json() == {"said": "welcome, Ada"}
    program.terminate()
    until(lambda: registry.ports("greeter") == [])
    assert httpx.get(f"{url}/hello/Ada", trust_env=False).status_code == 200
    assert program.wait(20) in CLEAN_END
