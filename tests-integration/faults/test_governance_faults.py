"""What limits and breakers do while their Redis fails in every way it can.

A Redis of the test's own is started by the program that REFERENCE_SERVERS names.
"""

import asyncio
import contextlib
import logging
import os
import re
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import redis
import redis.asyncio
from required_servers import servers_command

from microservice_core.testing import eventually
from microservice_governance import (
    AsyncRedisBreakerSharing,
    AsyncRedisRateLimiter,
    BreakerConfig,
    CircuitBreaker,
    Decision,
    LimitConfig,
    RedisRateLimiter,
)

pytestmark = pytest.mark.timeout(120)

TEN = LimitConfig(rate=10, per_seconds=3600)


class OwnRedis:
    """A Redis that nobody else uses."""

    def __init__(self, folder: Path) -> None:
        self.program = servers_command("redis")
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        self.environment = {
            name: value for name, value in os.environ.items() if not name.startswith("REDIS")
        } | {"REFERENCE_SERVERS_RUN": str(folder / "run")}

    def servers(self, *arguments: str) -> str:
        answer = subprocess.run(
            [self.program, *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert answer.returncode == 0, answer.stderr + answer.stdout
        return answer.stdout

    def up(self, name: str = "redis") -> None:
        ports = [self.port] if name == "redis" else [7301 + self.port % 100]
        self.servers("up", name, *(f"--port={port}" for port in ports))
        found = re.search(r"REDIS\w*_URL=(\S+)", self.servers("env", name))
        assert found is not None
        self.url = found[1].strip("'\"")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[OwnRedis]:
    own = OwnRedis(tmp_path)
    own.up()
    yield own
    own.servers("down", "redis", "--purge")


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[OwnRedis]:
    own = OwnRedis(tmp_path)
    own.up("redis-cluster")
    yield own
    own.servers("down", "redis-cluster", "--purge")


async def test_in_a_cluster_the_limits_of_a_key_share_a_slot(cluster: OwnRedis) -> None:
    limits = [TEN, LimitConfig(rate=20, per_seconds=3600)]
    with redis.RedisCluster.from_url(cluster.url) as client:
        plain = RedisRateLimiter(client, limits, name="t")
        assert [plain.try_acquire(f"u{number}").remaining for number in range(30)] == [9] * 30
        assert plain.snapshot()["shared"] is True
    async with (
        redis.asyncio.RedisCluster.from_url(cluster.url) as client,
        AsyncRedisRateLimiter(client, limits, name="t", timeout_seconds=5) as limiter,
    ):
        # One node after the other is met first: redis-py's cold start is not for many at once.
        assert [(await limiter.try_acquire(f"u{n}")).remaining for n in range(30)] == [8] * 30
        together = await asyncio.gather(*(limiter.try_acquire(f"u{n}") for n in range(30)))
        assert {decision.remaining for decision in together} == {7}
        assert limiter.snapshot()["shared"] is True


@pytest.fixture
async def limiter(server: OwnRedis) -> AsyncIterator[AsyncRedisRateLimiter]:
    async with AsyncRedisRateLimiter.from_url(
        server.url, TEN, name="t", timeout_seconds=0.2, replicas=5
    ) as limiter:
        yield limiter


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [one.message for one in caplog.records if one.name.startswith("microservice_gov")]


async def until_shared(limiter: AsyncRedisRateLimiter) -> None:
    async def ask() -> bool:
        await limiter.try_acquire("probe", 0)
        return bool(limiter.snapshot()["shared"])

    await eventually(ask, bool, within_seconds=30)


async def test_a_killed_redis_leaves_each_its_part_and_is_shared_again_when_it_is_back(
    server: OwnRedis, limiter: AsyncRedisRateLimiter, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    assert (await limiter.try_acquire("u")).remaining == 9
    server.servers("kill", "redis")
    decisions = [await limiter.try_acquire("u") for _ in range(50)]
    assert sum(decision.allowed for decision in decisions) == 2  # ten for five processes
    assert limiter.snapshot()["shared"] is False
    server.up()
    await until_shared(limiter)
    assert (await limiter.try_acquire("u")).remaining == 9
    said = warnings(caplog)
    assert len(said) == 2
    assert "each process limits alone" in said[0]


async def test_a_paused_redis_costs_each_call_at_most_the_timeout_and_soon_nothing(
    server: OwnRedis, limiter: AsyncRedisRateLimiter
) -> None:
    assert (await limiter.try_acquire("u")).allowed
    server.servers("pause", "redis")
    began = time.monotonic()
    results = await asyncio.gather(*(limiter.try_acquire(f"u{n}") for n in range(200)))
    assert all(decision.allowed for decision in results)
    for number in range(1000):
        await limiter.try_acquire(f"v{number}")
    # Three waits of 0.2 s, and a trial now and then; each of the 1200 waiting would be minutes.
    assert time.monotonic() - began < 20
    server.servers("resume", "redis")
    await until_shared(limiter)


async def test_scripts_that_vanish_under_load_lose_no_decision(
    server: OwnRedis, limiter: AsyncRedisRateLimiter
) -> None:
    async with redis.asyncio.Redis.from_url(server.url) as admin:

        async def flush() -> None:
            for _ in range(20):
                await admin.script_flush()
                await asyncio.sleep(0)

        async def take(number: int) -> list[Decision]:
            return [await limiter.try_acquire(f"u{number}") for _ in range(20)]

        taken = (await asyncio.gather(flush(), *(take(n) for n in range(20))))[1:]
        for decisions in taken:
            assert isinstance(decisions, list)
            assert sum(decision.allowed for decision in decisions) == 10
        assert limiter.snapshot()["shared"] is True


async def test_a_redis_that_became_a_replica_is_no_use_until_it_is_promoted(
    server: OwnRedis, limiter: AsyncRedisRateLimiter
) -> None:
    async with redis.asyncio.Redis.from_url(server.url) as admin:
        await limiter.try_acquire("u")
        await admin.execute_command("REPLICAOF", "127.0.0.1", "1")  # type: ignore[no-untyped-call]
        decisions = [await limiter.try_acquire("u") for _ in range(20)]
        assert sum(decision.allowed for decision in decisions) == 2
        assert limiter.snapshot()["shared"] is False
        await admin.execute_command("REPLICAOF", "NO", "ONE")  # type: ignore[no-untyped-call]
        await until_shared(limiter)


@pytest.mark.parametrize(
    "answer", [b"garbage\r\n", b"", b"$-5\r\n", b"*1000000000\r\n", b"\x00" * 99]
)
async def test_garbage_in_place_of_answers_is_a_failure_like_any_other(answer: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65_536):
            writer.write(answer)
            with contextlib.suppress(ConnectionError):
                await writer.drain()
            if not answer:
                break
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    url = f"redis://127.0.0.1:{port}"
    async with (
        server,
        AsyncRedisRateLimiter.from_url(
            url, TEN, name="t", timeout_seconds=0.2, replicas=5
        ) as limiter,
    ):
        decisions = [await limiter.try_acquire("u") for _ in range(20)]
        assert sum(decision.allowed for decision in decisions) == 2


def test_a_forked_child_has_connections_of_its_own(server: OwnRedis) -> None:
    with RedisRateLimiter.from_url(server.url, TEN, name="t", timeout_seconds=5) as limiter:
        assert limiter.try_acquire("u").remaining == 9
        child = os.fork()
        if child == 0:
            good = all(limiter.try_acquire("u").allowed for _ in range(4))
            os._exit(0 if good else 1)
        allowed = [limiter.try_acquire("u").allowed for _ in range(4)]
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert allowed == [True] * 4
        assert limiter.try_acquire("u").allowed
        assert not limiter.try_acquire("u").allowed


async def test_breakers_go_on_alone_and_share_again(server: OwnRedis) -> None:
    config = BreakerConfig(consecutive_failures=1, failure_rate_threshold=None, open_seconds=60)
    mine, theirs = (CircuitBreaker("orders", config) for _ in range(2))

    async def state() -> str:
        return theirs.current_state

    async with (
        redis.asyncio.Redis.from_url(server.url, socket_timeout=0.2) as client,
        AsyncRedisBreakerSharing(client, [mine], group="g", quorum=1, every_seconds=0.05),
        AsyncRedisBreakerSharing(client, [theirs], group="g", quorum=1, every_seconds=0.05),
    ):
        server.servers("kill", "redis")
        mine.acquire().release(OSError("down"))
        assert (mine.current_state, theirs.current_state) == ("open", "closed")
        server.up()
        await eventually(state, lambda seen: seen == "open", within_seconds=20)
