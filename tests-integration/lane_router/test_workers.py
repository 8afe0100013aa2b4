"""Prefork servers: every worker has a poller of its own, and learns of a change."""

import asyncio
import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from lane_router import AsyncLaneRouter
from lane_router.testing import FakeRouteRegistry

HERE = Path(__file__).parent

Start = Callable[..., subprocess.Popen[str]]
Answers = Callable[..., httpx.Response]

BEFORE = {"orders": {"lanes": [], "port": 8000}}
AFTER = {"orders": {"lanes": ["dev"], "port": 8000}}

SERVERS = {
    "gunicorn": ["-m", "gunicorn", "--preload", "--workers", "2", "--chdir", str(HERE),
                 "--bind", "127.0.0.1:{port}", "workers_wsgi:app"],
    "uvicorn": ["-m", "uvicorn", "--workers", "2", "--app-dir", str(HERE),
                "--port", "{port}", "workers_asgi:app"],
}  # fmt: skip


def ask(url: str) -> dict[str, Any]:
    # A connection of its own, so that each worker gets its turn.
    with httpx.Client(trust_env=False, headers={"x-lane": "dev"}) as client:
        told: dict[str, Any] = client.get(url).json()
        return told


@pytest.mark.parametrize("name", SERVERS)
def test_the_poller_lives_in_every_worker(
    name: str, start: Start, answers: Answers, free_port: int
) -> None:
    with FakeRouteRegistry(BEFORE) as registry:
        arguments = [one.format(port=free_port) for one in SERVERS[name]]
        server = start(*arguments, environment={"REGISTRY": registry.url})
        url = f"http://127.0.0.1:{free_port}/"
        answers(server, url)
        latest: dict[int, dict[str, Any]] = {}
        deadline = time.monotonic() + 60
        published = False
        while True:
            told = ask(url)
            assert told["lane"] == "dev"
            latest[told["pid"]] = told
            everybody = len(latest) >= 2
            if everybody and not published:
                assert all(one["polling"] for one in latest.values())
                registry.publish(AFTER)
                published = True
            if everybody and all(one["outcome"] == "lane" for one in latest.values()):
                break
            assert time.monotonic() < deadline, json.dumps(latest)


def test_the_poller_survives_the_end_of_an_event_loop() -> None:
    with FakeRouteRegistry(BEFORE) as registry:
        router = AsyncLaneRouter(registry.url)

        async def first() -> str:
            await router.wait_ready()
            return router.resolve("orders", "dev").outcome

        async def second() -> None:
            async with asyncio.timeout(30):
                while router.resolve("orders", "dev").outcome != "lane":
                    await asyncio.sleep(0.01)
            await router.aclose()

        assert asyncio.run(first()) == "base_fallback"
        assert router.polling
        registry.publish(AFTER)
        asyncio.run(second())
        assert not router.polling
