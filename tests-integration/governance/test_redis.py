"""Limits and breakers shared through the real Redis: the contracts, and many processes at once."""

import importlib.util
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import uuid4

import pytest
import redis
import redis.asyncio
from required_servers import read_variable

EXTRAS = Path(__file__).parents[2] / "packages/governance/tests/extras"
CALLER = Path(__file__).with_name("caller.py")


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        f"governance_{Path(name).name}", EXTRAS / f"{name}.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


limiter, sharing = load("rate_limit/test_redis_limiter"), load("breaker/test_sharing")

ProtocolAndDecoding = [(2, False), (2, True), (3, False), (3, True)]


@pytest.fixture
def url() -> str:
    return read_variable("REDIS_URL")


class OnRedis:
    """Clients of every protocol and decoding; what a test has stored is deleted."""

    @pytest.fixture(params=ProtocolAndDecoding, ids=str)
    def options(self, request: pytest.FixtureRequest) -> dict[str, Any]:
        protocol, decode = request.param
        return {"protocol": protocol, "decode_responses": decode}

    @pytest.fixture
    async def client(self, url: str, options: dict[str, Any]) -> AsyncIterator[redis.asyncio.Redis]:
        async with redis.asyncio.Redis.from_url(url, **options) as client:
            yield client

    @pytest.fixture
    def sync_client(self, url: str, options: dict[str, Any]) -> Iterator[redis.Redis]:
        with redis.Redis.from_url(url, **options) as client:
            yield client

    @pytest.fixture
    def prefix(self, url: str) -> Iterator[str]:
        prefix = f"t{uuid4().hex[:8]}-"
        yield prefix
        with redis.Redis.from_url(url) as client:
            for key in client.scan_iter(f"*{{{prefix}*"):
                client.delete(key)

    @pytest.fixture
    def group(self, prefix: str) -> str:
        return prefix

    @pytest.fixture
    def clock(self) -> object:
        return limiter.Clock()


class TestLimiterOnRedis(OnRedis, limiter.RedisLimiterContract):  # type: ignore[misc,name-defined]
    pass


class TestSharingOnRedis(OnRedis, sharing.SharingContract):  # type: ignore[misc,name-defined]
    pass


RATE, BURST = 300, 15


def test_eight_processes_at_one_limit_admit_what_it_allows(url: str) -> None:
    """Within one percent, by the clock that all of them share."""
    name = f"t{uuid4().hex[:8]}"
    command = [sys.executable, str(CALLER), url, name, str(RATE), str(BURST), "6.0"]
    callers = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, stdin=subprocess.PIPE)
        for _ in range(8)
    ]
    for caller in callers:
        assert caller.stdout is not None
        assert caller.stdout.readline() == "ready\n"
    for caller in callers:
        assert caller.stdin is not None
        caller.stdin.write("go\n")
        caller.stdin.flush()
    reports = [json.loads(caller.communicate(timeout=60)[0]) for caller in callers]
    admitted = sum(report["admitted"] for report in reports)
    began = min(report["began"] for report in reports)
    lasted = max(report["ended"] for report in reports) - began
    allowed = BURST + RATE * lasted
    print(f"admitted {admitted} of {allowed:.0f} allowed in {lasted:.2f} s")
    assert allowed * 0.99 <= admitted <= allowed * 1.01 + 1
    assert all(report["admitted"] for report in reports)
