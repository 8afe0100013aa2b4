"""Openings shared through Redis: the contract, here on fakeredis."""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import uuid4

import fakeredis
import pytest
import redis
import redis.asyncio

from microservice_core import InvalidValueError
from microservice_core.testing import eventually
from microservice_governance import (
    AsyncRedisBreakerSharing,
    BreakerConfig,
    CircuitBreaker,
    KeyedCircuitBreakers,
    RedisBreakerSharing,
)

CONFIG = BreakerConfig(
    consecutive_failures=1,
    failure_rate_threshold=None,
    open_seconds=5,
    permitted_half_open_calls=1,
)


def fail(breaker: CircuitBreaker) -> None:
    breaker.acquire().release(OSError("down"))


class SharingContract:
    """Needs the fixtures `client`, `sync_client` and `group`; each sharing is a process."""

    @pytest.fixture
    def joined(
        self, client: redis.asyncio.Redis, group: str, clock: Any
    ) -> Callable[..., tuple[CircuitBreaker, AsyncRedisBreakerSharing]]:
        def join(**settings: Any) -> tuple[CircuitBreaker, AsyncRedisBreakerSharing]:
            breaker = CircuitBreaker("orders", CONFIG, clock=clock)
            sharing = AsyncRedisBreakerSharing(
                client, [breaker], group=group, clock=clock, **settings
            )
            sharing.attach()
            return breaker, sharing

        return join

    async def test_one_process_alone_opens_for_nobody_else(self, joined: Any) -> None:
        (mine, sharing), (theirs, others) = joined(), joined()
        fail(mine)
        for _ in range(3):
            await sharing.exchange()
            await others.exchange()
        assert (mine.current_state, theirs.current_state) == ("open", "closed")

    async def test_a_quorum_opens_for_all_and_each_closes_by_its_own_trials(
        self, joined: Any, clock: Any
    ) -> None:
        members = [joined(quorum=2) for _ in range(4)]
        for breaker, sharing in members[:2]:
            fail(breaker)
            await sharing.exchange()
        for _, sharing in members:
            await sharing.exchange()
        assert [breaker.current_state for breaker, _ in members] == ["open"] * 4
        clock.advance(5)
        last, sharing = members[3]
        last.acquire().release()
        await sharing.exchange()
        assert last.current_state == "closed"
        # The same opening is not applied again.
        await sharing.exchange()
        assert last.current_state == "closed"
        assert members[2][0].current_state == "open"

    async def test_what_was_opened_by_others_is_not_reported_as_ones_own(self, joined: Any) -> None:
        members = [joined(quorum=1) for _ in range(2)]
        fail(members[0][0])
        await members[0][1].exchange()
        await members[1][1].exchange()
        assert members[1][0].current_state == "open"
        assert members[1][1].snapshot()["pending_reports"] == []

    async def test_the_next_opening_has_an_epoch_of_its_own(
        self, joined: Any, client: redis.asyncio.Redis, group: str, clock: Any
    ) -> None:
        (mine, sharing), (theirs, others) = joined(quorum=1), joined(quorum=1)
        for expected in ("1", "2"):
            fail(mine)
            await sharing.exchange()
            await others.exchange()
            assert theirs.current_state == "open"
            assert await client.get(f"cb:{{{group}}}:orders") in {expected, expected.encode()}
            mine.close()
            theirs.close()
            await client.delete(f"cb:{{{group}}}:orders")  # its time is over

    async def test_every_key_has_a_time_to_live(
        self, joined: Any, client: redis.asyncio.Redis, group: str
    ) -> None:
        mine, sharing = joined(quorum=1)
        fail(mine)
        await sharing.exchange()
        keys = [key async for key in client.scan_iter(f"cb:{{{group}}}*")]
        assert len(keys) == 3
        for key in keys:
            assert await client.pttl(key) > 0

    async def test_a_task_shares_by_itself(self, client: redis.asyncio.Redis, group: str) -> None:
        breakers = [KeyedCircuitBreakers(CONFIG, name="orders") for _ in range(2)]
        theirs = breakers[1].get("10.0.0.1")
        settings: dict[str, Any] = {"group": group, "quorum": 1, "every_seconds": 0.02}
        async with (
            AsyncRedisBreakerSharing(client, breakers[0], **settings),
            AsyncRedisBreakerSharing(client, breakers[1], **settings) as last,
        ):
            await asyncio.to_thread(fail, breakers[0].get("10.0.0.1"))

            async def state() -> str:
                return theirs.current_state

            assert await eventually(state, lambda seen: seen == "open") == "open"
        await last.aclose()

    async def test_a_thread_shares_by_itself(self, sync_client: redis.Redis, group: str) -> None:
        mine, theirs = (CircuitBreaker("orders", CONFIG) for _ in range(2))
        settings: dict[str, Any] = {"group": group, "quorum": 1, "every_seconds": 0.02}
        with (
            RedisBreakerSharing(sync_client, [mine], **settings),
            RedisBreakerSharing(sync_client, [theirs], **settings) as last,
        ):
            fail(mine)

            async def state() -> str:
                return theirs.current_state

            await eventually(state, lambda seen: seen == "open")
        last.close()
        assert not any(thread.name == f"breakers of {group}" for thread in threading.enumerate())


class OnFakeredis(SharingContract):
    decode = False

    @pytest.fixture
    def server(self) -> fakeredis.FakeServer:
        return fakeredis.FakeServer()

    @pytest.fixture
    async def client(self, server: fakeredis.FakeServer) -> AsyncIterator[redis.asyncio.Redis]:
        client = fakeredis.FakeAsyncRedis(server=server, decode_responses=self.decode)
        yield client
        await client.aclose()

    @pytest.fixture
    def sync_client(self, server: fakeredis.FakeServer) -> redis.Redis:
        return fakeredis.FakeRedis(server=server, decode_responses=self.decode)

    @pytest.fixture
    def group(self) -> str:
        return f"g{uuid4().hex[:8]}"


class TestBytesFromFakeredis(OnFakeredis):
    pass


class TestTextFromFakeredis(OnFakeredis):
    decode = True


@pytest.mark.parametrize("plain", [True, False])
async def test_while_redis_is_away_each_is_alone_and_reports_are_kept(
    plain: bool, clock: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "microservice_governance")
    server = fakeredis.FakeServer()
    mine = CircuitBreaker("orders", CONFIG, clock=clock)
    settings: dict[str, Any] = {"group": "g", "quorum": 1, "clock": clock}
    sharing: Any
    if plain:
        sharing = RedisBreakerSharing(fakeredis.FakeRedis(server=server), [mine], **settings)
    else:
        sharing = AsyncRedisBreakerSharing(
            fakeredis.FakeAsyncRedis(server=server), [mine], **settings
        )
    sharing.attach()

    async def exchange() -> None:
        done = sharing.exchange()
        if not plain:
            await done

    server.connected = False
    fail(mine)
    for _ in range(5):
        await exchange()
    assert mine.current_state == "open"
    server.connected = True
    await exchange()
    reader = fakeredis.FakeRedis(server=server)
    assert reader.get("cb:{g}:orders") == b"1"
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


async def test_a_report_that_is_too_old_is_dropped(clock: Any) -> None:
    client = fakeredis.FakeAsyncRedis()
    mine = CircuitBreaker("orders", CONFIG, clock=clock)
    sharing = AsyncRedisBreakerSharing(client, [mine], group="g", quorum=1, clock=clock)
    sharing.attach()
    fail(mine)
    clock.advance(11)
    await sharing.exchange()
    assert await client.keys("*") == []


@pytest.mark.parametrize(
    ("field", "settings"),
    [
        ("group", {"group": "a{b"}),
        ("quorum", {"quorum": 0}),
        ("window_seconds", {"window_seconds": 0}),
        ("every_seconds", {"every_seconds": 0}),
    ],
)
async def test_settings_out_of_range_are_refused(field: str, settings: dict[str, Any]) -> None:
    with pytest.raises(InvalidValueError, match=f"^{field} must be"):
        AsyncRedisBreakerSharing(fakeredis.FakeAsyncRedis(), [], **{"group": "g", **settings})
