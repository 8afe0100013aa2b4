"""The contract of the limits on Redis, here on fakeredis; tests-integration runs it on real ones."""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import fakeredis
import pytest
import redis
import redis.asyncio
from hypothesis import given, settings
from hypothesis import strategies as st

from microservice_core import InvalidValueError
from microservice_governance import (
    AsyncRedisRateLimiter,
    Decision,
    KeyedLimit,
    LimitConfig,
    RateLimitedError,
    RateLimiter,
    RedisRateLimiter,
    deadline,
    testing,
)

FIVE = LimitConfig(rate=5, per_seconds=5.0, burst=5)

# What redis-cell answers at t ms: quantity, remaining, reset ms, retry ms, limited.
REDIS_CELL = [
    (0, 6, 5, 0, -1, True),
    (0, 1, 4, 1000, -1, False),
    (0, 1, 3, 2000, -1, False),
    (0, 1, 2, 3000, -1, False),
    (0, 1, 1, 4000, -1, False),
    (0, 1, 0, 5000, -1, False),
    (0, 1, 0, 5000, 1000, True),
    (0, 0, 0, 5000, -1, False),
    (500, 1, 0, 4500, 500, True),
    (1000, 1, 0, 5000, -1, False),
    (3000, 3, 2, 3000, 1000, True),
    (3000, 2, 0, 5000, -1, False),
    (60_000, 0, 5, 0, -1, False),
    (60_000, 5, 0, 5000, -1, False),
]


class Clock:
    """The server's time and this process's, moved together."""

    def __init__(self) -> None:
        self.microseconds = 1_700_000_000_000_000

    def __call__(self) -> float:
        return self.microseconds / 1e6

    def server(self) -> int:
        return self.microseconds

    def advance(self, seconds: float) -> None:
        self.microseconds += round(seconds * 1e6)


def expected(row: tuple[int, int, int, int, int, bool]) -> tuple[bool, int, float, float]:
    _, _, remaining, reset, retry, limited = row
    return not limited, remaining, retry / 1000 if retry >= 0 else -1.0, reset / 1000


@pytest.fixture
def clock() -> Clock:
    return Clock()


ODD_KEYS: list[Any] = [
    "",
    "42",
    42,
    -42,
    10**5000,
    b"42",
    b"\xff{}",
    ("42",),
    ("orders", ("10.0.0.7:8080", 7)),
    "%i42",
    "\ud800",
    "k" * 10_000,
]


class RedisLimiterContract:
    """Needs the fixtures `client`, `sync_client` and `prefix`, a text to begin names with."""

    @pytest.fixture
    def limiter(
        self, client: redis.asyncio.Redis, prefix: str, clock: Clock
    ) -> AsyncRedisRateLimiter:
        return AsyncRedisRateLimiter(
            client,
            FIVE,
            name=f"{prefix}five",
            timeout_seconds=5,
            clock=clock,
            server_time=clock.server,
        )

    async def test_it_answers_as_redis_cell_does(
        self, limiter: AsyncRedisRateLimiter, clock: Clock
    ) -> None:
        began = clock.microseconds
        local = RateLimiter(FIVE, clock=clock)
        for row in REDIS_CELL:
            clock.microseconds = began + row[0] * 1000
            assert tuple(await limiter.try_acquire("user:7", row[1])) == expected(row)
            assert tuple(local.try_acquire(row[1])) == pytest.approx(expected(row))

    async def test_both_faces_share_one_limit(
        self, limiter: AsyncRedisRateLimiter, sync_client: redis.Redis, prefix: str, clock: Clock
    ) -> None:
        plain = RedisRateLimiter(
            sync_client, FIVE, name=f"{prefix}five", clock=clock, server_time=clock.server
        )
        assert (await limiter.try_acquire("user:7", 2)).remaining == 3
        assert plain.try_acquire("user:7", 2).remaining == 1
        assert plain.try_acquire("user:8").remaining == 4
        assert (await limiter.try_acquire("user:7", 2)).allowed is False

    async def test_several_limits_hold_at_once_and_a_refusal_takes_nothing(
        self, client: redis.asyncio.Redis, prefix: str, clock: Clock
    ) -> None:
        limits = [LimitConfig(rate=2, per_seconds=1), LimitConfig(rate=3, per_seconds=60)]
        limiter = AsyncRedisRateLimiter(
            client, limits, name=f"{prefix}two", clock=clock, server_time=clock.server
        )
        assert (await limiter.try_acquire("u")).remaining == 1
        assert (await limiter.try_acquire("u")).remaining == 0
        assert (await limiter.try_acquire("u")).retry_after == 0.5
        clock.advance(1)
        assert (await limiter.try_acquire("u")).allowed
        refusal = await limiter.try_acquire("u")
        assert (refusal.allowed, refusal.retry_after) == (False, 19.0)
        clock.advance(19.0)
        assert (await limiter.try_acquire("u")).allowed

    async def test_each_limit_has_a_key_with_a_time_to_live_in_one_slot(
        self, client: redis.asyncio.Redis, prefix: str, clock: Clock
    ) -> None:
        limits = [FIVE, LimitConfig(rate=9, per_seconds=9)]
        limiter = AsyncRedisRateLimiter(
            client, limits, name=f"{prefix}ttl", clock=clock, server_time=clock.server
        )
        await limiter.try_acquire("a{b}c", 3)
        keys = sorted([key async for key in client.scan_iter(f"rl:{{{prefix}ttl:*")])
        names = [key if isinstance(key, str) else key.decode() for key in keys]
        tag = f"rl:{{{prefix}ttl:a%7Bb%7Dc}}"
        assert names == [f"{tag}0", f"{tag}1"]
        for key in keys:
            assert 0 < await client.pttl(key) <= 3000

    async def test_a_look_takes_nothing_and_leaves_no_key(
        self, limiter: AsyncRedisRateLimiter, client: redis.asyncio.Redis, prefix: str
    ) -> None:
        assert tuple(await limiter.try_acquire("u", 0)) == (True, 5, -1.0, 0.0)
        assert await client.exists(f"rl:{{{prefix}five:u}}") == 0

    @pytest.mark.parametrize("garbage", ["soon", "nan", "inf", "-inf", "1e400", "", "list"])
    async def test_what_somebody_else_stored_there_does_no_harm(
        self, limiter: AsyncRedisRateLimiter, client: redis.asyncio.Redis, prefix: str, garbage: str
    ) -> None:
        key = f"rl:{{{prefix}five:u}}"
        if garbage == "list":
            await client.rpush(key, "x")
        else:
            await client.set(key, garbage)
        first = await limiter.try_acquire("u")
        later = [await limiter.try_acquire("u") for _ in range(9)]
        assert sum(decision.allowed for decision in [first, *later]) in {0, 5}
        if garbage not in {"inf", "1e400"}:
            assert first.remaining == 4
            assert 0 < await client.pttl(key) <= 5000

    async def test_a_clock_that_steps_back_locks_nobody_out(
        self, limiter: AsyncRedisRateLimiter, clock: Clock
    ) -> None:
        await limiter.try_acquire("u", 5)
        clock.microseconds -= 3_600_000_000
        refusal = await limiter.try_acquire("u")
        assert (refusal.allowed, refusal.retry_after) == (False, 1)
        clock.advance(1)
        assert (await limiter.try_acquire("u")).allowed

    async def test_a_denied_key_costs_no_round_trip_until_its_time(
        self, limiter: AsyncRedisRateLimiter, client: redis.asyncio.Redis, prefix: str, clock: Clock
    ) -> None:
        await limiter.try_acquire("u", 5)
        assert (await limiter.try_acquire("u", 2)).retry_after == 2
        # Were Redis asked again it would say yes.
        await client.delete(f"rl:{{{prefix}five:u}}")
        clock.advance(1.5)
        denied = await limiter.try_acquire("u", 2)
        assert (denied.allowed, denied.retry_after, denied.reset_after) == (False, 0.5, 3.5)
        assert (await limiter.try_acquire("u", 3)).allowed is False
        clock.advance(0.5)
        assert (await limiter.try_acquire("u", 2)).allowed

    async def test_less_than_what_was_denied_is_asked_for(
        self, limiter: AsyncRedisRateLimiter
    ) -> None:
        await limiter.try_acquire("u", 4)
        assert not (await limiter.try_acquire("u", 2)).allowed
        assert (await limiter.try_acquire("u", 1)).allowed

    async def test_a_key_in_demand_is_leased_and_never_more_than_the_limit_passes(
        self, client: redis.asyncio.Redis, prefix: str, clock: Clock
    ) -> None:
        config = LimitConfig(rate=100, per_seconds=10)
        one, two = (
            AsyncRedisRateLimiter(
                client,
                config,
                name=f"{prefix}lease",
                lease=10,
                timeout_seconds=5,
                clock=clock,
                server_time=clock.server,
            )
            for _ in range(2)
        )
        passed = 0
        for _ in range(80):
            passed += (await one.try_acquire("hot")).allowed
            passed += (await two.try_acquire("hot")).allowed
        assert 90 <= passed <= 100
        # All that the two hold goes without asking.
        await client.delete(f"rl:{{{prefix}lease:hot}}")
        assert not (await one.try_acquire("hot")).allowed

    async def test_leased_units_cost_no_round_trip_and_lapse(
        self, client: redis.asyncio.Redis, prefix: str, clock: Clock
    ) -> None:
        limiter = AsyncRedisRateLimiter(
            client,
            LimitConfig(rate=20, per_seconds=2),
            name=f"{prefix}lapse",
            lease=10,
            timeout_seconds=5,
            clock=clock,
            server_time=clock.server,
        )
        key = f"rl:{{{prefix}lapse:hot}}"
        assert (await limiter.try_acquire("hot")).remaining == 19
        assert (await limiter.try_acquire("hot")).remaining == 18  # ten taken, nine held
        await client.set(key, str(clock.microseconds + 10**9))
        for left in range(8, -1, -1):
            assert (await limiter.try_acquire("hot")).remaining == left
        assert not (await limiter.try_acquire("hot")).allowed
        await client.delete(key)
        clock.advance(2)
        await limiter.try_acquire("hot")
        await limiter.try_acquire("hot")
        clock.advance(1.01)
        await client.set(key, str(clock.microseconds + 10**9))
        assert not (await limiter.try_acquire("hot")).allowed

    async def test_many_at_once_get_exactly_the_limit(
        self, client: redis.asyncio.Redis, prefix: str, clock: Clock
    ) -> None:
        limiter = AsyncRedisRateLimiter(
            client,
            LimitConfig(rate=100, per_seconds=100),
            name=f"{prefix}many",
            timeout_seconds=5,
            clock=clock,
            server_time=clock.server,
        )
        decisions = await asyncio.gather(*(limiter.try_acquire("hot") for _ in range(300)))
        assert sum(decision.allowed for decision in decisions) == 100

    async def test_the_script_is_loaded_again_when_the_server_forgot_it(
        self,
        limiter: AsyncRedisRateLimiter,
        client: redis.asyncio.Redis,
        sync_client: redis.Redis,
        prefix: str,
    ) -> None:
        await client.script_flush()
        assert (await limiter.try_acquire("u")).allowed
        await client.script_flush()
        together = await asyncio.gather(*(limiter.try_acquire("u") for _ in range(8)))
        assert sum(decision.allowed for decision in together) == 4
        await client.script_flush()
        plain = RedisRateLimiter(sync_client, FIVE, name=f"{prefix}plain")
        assert plain.try_acquire("u").remaining == 4

    async def test_a_cancelled_caller_does_not_disturb_the_others(
        self, limiter: AsyncRedisRateLimiter
    ) -> None:
        tasks = [asyncio.create_task(limiter.try_acquire(f"u{number}")) for number in range(6)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        tasks[3].cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(results[0], asyncio.CancelledError)
        assert isinstance(results[3], asyncio.CancelledError)
        for number in (1, 2, 4, 5):
            decision = results[number]
            assert isinstance(decision, Decision)
            assert decision.remaining == 4
        assert (await limiter.try_acquire("u1")).remaining == 3

    async def test_the_servers_own_clock_is_used(
        self, client: redis.asyncio.Redis, sync_client: redis.Redis, prefix: str
    ) -> None:
        slow = LimitConfig(rate=3, per_seconds=3000)
        limiter = AsyncRedisRateLimiter(client, slow, name=f"{prefix}time", timeout_seconds=5)
        allowed = [(await limiter.try_acquire("u")).allowed for _ in range(4)]
        assert allowed == [True, True, True, False]
        plain = RedisRateLimiter(sync_client, slow, name=f"{prefix}time")
        assert 900 < plain.try_acquire("u").retry_after <= 1000

    async def test_a_very_long_key_is_stored_short(
        self, limiter: AsyncRedisRateLimiter, client: redis.asyncio.Redis, prefix: str
    ) -> None:
        assert (await limiter.try_acquire("k" * 100_000)).remaining == 4
        assert (await limiter.try_acquire("k" * 99_999)).remaining == 4
        assert (await limiter.try_acquire("k" * 100_000)).remaining == 3
        keys = [key async for key in client.scan_iter(f"rl:{{{prefix}five:*")]
        assert [len(key) < 200 for key in keys] == [True, True]

    async def test_every_kind_of_key_has_its_own_limit_in_both_faces(
        self, limiter: AsyncRedisRateLimiter, sync_client: redis.Redis, prefix: str, clock: Clock
    ) -> None:
        plain = RedisRateLimiter(
            sync_client, FIVE, name=f"{prefix}five", clock=clock, server_time=clock.server
        )
        for key in ODD_KEYS:
            assert (await limiter.try_acquire(key)).remaining == 4
            assert plain.try_acquire(key).remaining == 3
        assert limiter.snapshot()["shared"] is True
        assert plain.snapshot()["shared"] is True

    async def test_a_bad_key_is_refused_and_harms_no_other(
        self, limiter: AsyncRedisRateLimiter, sync_client: redis.Redis, prefix: str, clock: Clock
    ) -> None:
        keys: list[Any] = ["a", None, "\ud800", "b", 1.5, "c"]
        results = await asyncio.gather(
            *(limiter.try_acquire(key) for key in keys), return_exceptions=True
        )
        for key, result in zip(keys, results, strict=True):
            if isinstance(key, str):
                assert isinstance(result, Decision)
                assert result.remaining == 4
            else:
                assert isinstance(result, InvalidValueError)
        plain = RedisRateLimiter(
            sync_client, FIVE, name=f"{prefix}five", clock=clock, server_time=clock.server
        )
        for _ in range(4):
            with pytest.raises(InvalidValueError, match="key must be"):
                plain.try_acquire(None)  # type: ignore[arg-type]
        assert plain.try_acquire("a").remaining == 3
        assert limiter.snapshot()["shared"] is True

    async def test_a_limiter_with_another_limit_waits_one_burst_at_most(
        self, limiter: AsyncRedisRateLimiter, client: redis.asyncio.Redis, prefix: str, clock: Clock
    ) -> None:
        """As after a deployment that raised or lowered the limit."""
        name = f"{prefix}changed"
        settings: dict[str, Any] = {
            "timeout_seconds": 5,
            "clock": clock,
            "server_time": clock.server,
        }
        hourly = LimitConfig(rate=10, per_seconds=3600)
        old = AsyncRedisRateLimiter(client, hourly, name=name, **settings)
        await old.try_acquire("u", 10)
        new = AsyncRedisRateLimiter(client, LimitConfig(rate=100), name=name, **settings)
        assert (await new.try_acquire("u")).reset_after <= 1
        clock.advance(1)
        assert (await new.try_acquire("u", 100)).allowed
        assert (await old.try_acquire("u", 0)).reset_after <= 3600


class OverAWire(fakeredis.FakeAsyncRedis):
    """Suspends on each command, as one that is sent somewhere does."""

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return await super().execute_command(*args, **options)  # type: ignore[no-untyped-call]


class OnFakeredis(RedisLimiterContract):
    decode = False

    @pytest.fixture
    def server(self) -> fakeredis.FakeServer:
        return fakeredis.FakeServer()

    @pytest.fixture
    async def client(self, server: fakeredis.FakeServer) -> AsyncIterator[redis.asyncio.Redis]:
        client = OverAWire(server=server, decode_responses=self.decode)
        yield client
        await client.aclose()

    @pytest.fixture
    def sync_client(self, server: fakeredis.FakeServer) -> redis.Redis:
        return fakeredis.FakeRedis(server=server, decode_responses=self.decode)

    @pytest.fixture
    def prefix(self) -> str:
        return f"t{uuid4().hex[:8]}-"


class TestBytesFromFakeredis(OnFakeredis):
    pass


class TestTextFromFakeredis(OnFakeredis):
    decode = True


class Broken(fakeredis.FakeAsyncRedis):
    """A client whose server does not answer while it is down; counts what it is asked."""

    down = True
    asked = 0

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        self.asked += 1
        if self.down:
            raise redis.exceptions.ConnectionError("down")
        return await super().execute_command(*args, **options)  # type: ignore[no-untyped-call]


def broken(clock: Clock, **settings: Any) -> tuple[Broken, AsyncRedisRateLimiter]:
    client = Broken()
    settings = {"name": "t", "clock": clock, "server_time": clock.server, **settings}
    return client, AsyncRedisRateLimiter(client, LimitConfig(rate=10), **settings)


async def test_without_redis_each_process_has_its_part(clock: Clock) -> None:
    _, limiter = broken(clock, replicas=5)
    assert [(await limiter.try_acquire("u")).allowed for _ in range(3)] == [True, True, False]
    assert (await limiter.try_acquire("v")).allowed


@pytest.mark.parametrize(("policy", "allowed"), [("open", True), ("closed", False)])
async def test_without_redis_all_or_none_pass(clock: Clock, policy: Any, allowed: bool) -> None:
    _, limiter = broken(clock, on_failure=policy)
    decisions = [await limiter.try_acquire("u") for _ in range(50)]
    assert {decision.allowed for decision in decisions} == {allowed}
    assert all(allowed or decision.retry_after > 0 for decision in decisions)


async def test_without_redis_several_limits_hold_and_a_refusal_takes_nothing(clock: Clock) -> None:
    limits = [LimitConfig(rate=10), LimitConfig(rate=2, per_seconds=60)]
    limiter = AsyncRedisRateLimiter(Broken(), limits, name="t", clock=clock)
    assert [(await limiter.try_acquire("u")).allowed for _ in range(4)] == [True] * 2 + [False] * 2
    clock.advance(30)
    decision = await limiter.try_acquire("u", 1)
    assert decision.allowed


async def test_redis_is_left_alone_for_a_moment_and_one_line_is_logged_per_change(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "microservice_governance")
    client, limiter = broken(clock)
    for number in range(100):
        await limiter.try_acquire(f"u{number}")
    assert client.asked == 3
    clock.advance(0.6)
    await limiter.try_acquire("again")
    assert client.asked == 4
    client.down = False
    clock.advance(2)
    assert (await limiter.try_acquire("u1")).remaining == 9
    said = [record.message for record in caplog.records]
    assert len(said) == 2
    assert "each process limits alone" in said[0]
    assert "again" in said[1]
    assert limiter.snapshot()["shared"] is True


async def test_a_redis_that_hangs_costs_the_timeout_only(clock: Clock) -> None:
    class Hanging(fakeredis.FakeAsyncRedis):
        async def execute_command(self, *args: Any, **options: Any) -> Any:
            await asyncio.Event().wait()

        def pipeline(self, *args: Any, **options: Any) -> Any:
            pipe = super().pipeline(*args, **options)
            setattr(pipe, "execute", self.execute_command)  # noqa: B010 - it has another type
            return pipe

    client = Hanging()
    limiter = AsyncRedisRateLimiter(
        client, LimitConfig(rate=10), name="t", timeout_seconds=0.01, clock=clock
    )
    results = await asyncio.gather(*(limiter.try_acquire("u") for _ in range(30)))
    assert sum(decision.allowed for decision in results) == 10
    await limiter.aclose()


async def test_a_garbled_response_is_a_failure_of_redis(clock: Clock) -> None:
    class Garbled(fakeredis.FakeAsyncRedis):
        async def execute_command(self, *args: Any, **options: Any) -> Any:
            return b"<html>"

    limiter = AsyncRedisRateLimiter(Garbled(), LimitConfig(rate=2), name="t", clock=clock)
    decisions = [await limiter.try_acquire("u") for _ in range(3)]
    assert [decision.allowed for decision in decisions] == [True, True, False]
    assert limiter.snapshot()["shared"] is False


async def test_closed_while_a_batch_is_under_way_it_ends_it(clock: Clock) -> None:
    release = asyncio.Event()

    class Slow(fakeredis.FakeAsyncRedis):
        async def execute_command(self, *args: Any, **options: Any) -> Any:
            await release.wait()
            return await super().execute_command(*args, **options)  # type: ignore[no-untyped-call]

        def pipeline(self, *args: Any, **options: Any) -> Any:
            pipe = super().pipeline(*args, **options)

            async def execute(**_: object) -> Any:
                await release.wait()

            setattr(pipe, "execute", execute)  # noqa: B010 - it has another type
            return pipe

    limiter = AsyncRedisRateLimiter(
        Slow(), LimitConfig(rate=10), name="t", timeout_seconds=5, clock=clock
    )
    tasks = [asyncio.create_task(limiter.try_acquire("u")) for _ in range(3)]
    for _ in range(5):
        await asyncio.sleep(0)
    await limiter.aclose()
    release.set()
    decisions = await asyncio.gather(*tasks)
    assert all(decision.allowed for decision in decisions)


async def test_a_caller_may_wait_its_turn() -> None:
    clock = Clock()

    async def sleep(seconds: float) -> None:
        clock.advance(seconds)

    client = fakeredis.FakeAsyncRedis()
    limiter = AsyncRedisRateLimiter(
        client, FIVE, name="t", clock=clock, sleep=sleep, server_time=clock.server
    )
    began = clock()
    for _ in range(7):
        await limiter.acquire("u")
    assert clock() - began == pytest.approx(2)
    with pytest.raises(RateLimitedError) as caught:
        await limiter.acquire("u", timeout=0.5)
    assert caught.value.retry_after == pytest.approx(1)
    with deadline(0.5, clock=clock), pytest.raises(RateLimitedError):
        await limiter.acquire("u")
    with pytest.raises(InvalidValueError, match="cost must be at most the burst, 5"):
        await limiter.acquire("u", 6)
    with testing():
        await limiter.acquire("u", 5)


def test_the_plain_face_waits_fails_over_and_closes() -> None:
    clock = Clock()
    server = fakeredis.FakeServer()
    client = fakeredis.FakeRedis(server=server)
    with RedisRateLimiter(
        client, FIVE, name="t", clock=clock, sleep=clock.advance, server_time=clock.server
    ) as limiter:
        began = clock()
        for _ in range(7):
            limiter.acquire("u")
        assert clock() - began == pytest.approx(2)
        assert limiter.try_acquire("u").allowed is False
        assert limiter.try_acquire("u").allowed is False
        server.connected = False
        assert [limiter.try_acquire("v").allowed for _ in range(6)] == [True] * 5 + [False]
        assert repr(limiter) == "RedisRateLimiter('t', 1 limits)"


async def test_from_url_makes_clients_of_their_own() -> None:
    url = "redis://127.0.0.1:1"
    with RedisRateLimiter.from_url(url, FIVE, name="t") as plain:
        assert plain.try_acquire("u").allowed
    async with AsyncRedisRateLimiter.from_url(url, FIVE, name="t") as limiter:
        assert (await limiter.try_acquire("u")).allowed


@settings(max_examples=60)
@given(
    steps=st.lists(
        st.tuples(st.integers(0, 3_000_000), st.integers(0, 7)), min_size=1, max_size=30
    ),
    rate=st.integers(1, 50),
    burst=st.integers(1, 6),
)
def test_the_script_decides_as_the_local_limiter_does(
    steps: list[tuple[int, int]], rate: int, burst: int
) -> None:
    clock = Clock()
    clock.microseconds = 0
    config = LimitConfig(rate=rate, per_seconds=1.0 * rate, burst=burst)
    client = fakeredis.FakeRedis()
    shared = RedisRateLimiter(client, config, name="t", server_time=clock.server, clock=clock)
    local = RateLimiter(config, clock=lambda: clock.microseconds / 1e6)
    for wait, cost in steps:
        clock.microseconds += wait
        decision, truth = shared.try_acquire("u", cost), local.try_acquire(cost)
        assert tuple(decision) == pytest.approx(
            # A denial that is remembered says what remained at its time.
            tuple(truth if truth.allowed else truth._replace(remaining=decision.remaining)),
            abs=2e-6,
        )
        assert decision.remaining <= truth.remaining


@pytest.mark.parametrize(
    ("field", "settings"),
    [
        ("limits", {"limits": []}),
        ("rate", {"limits": LimitConfig(rate=1_000_001)}),
        ("name", {"name": "a{b"}),
        ("name", {"name": ""}),
        ("on_failure", {"on_failure": "maybe"}),
        ("replicas", {"replicas": 0}),
        ("lease", {"lease": 0}),
        ("max_keys", {"max_keys": 0}),
        ("timeout_seconds", {"timeout_seconds": 0}),
    ],
)
async def test_settings_out_of_range_are_refused(field: str, settings: dict[str, Any]) -> None:
    given: dict[str, Any] = {"limits": FIVE, "name": "t", **settings}
    with pytest.raises(InvalidValueError, match=f"^{field} must be"):
        AsyncRedisRateLimiter(fakeredis.FakeAsyncRedis(), **given)


async def test_a_negative_cost_is_refused() -> None:
    limiter = AsyncRedisRateLimiter(fakeredis.FakeAsyncRedis(), FIVE, name="t")
    with pytest.raises(InvalidValueError, match="cost must be at least 0"):
        await limiter.try_acquire("u", -1)


async def test_memory_for_denied_keys_is_bounded(clock: Clock) -> None:
    client = fakeredis.FakeAsyncRedis()
    limiter = AsyncRedisRateLimiter(
        client,
        LimitConfig(rate=1, per_seconds=100),
        name="t",
        max_keys=10,
        clock=clock,
        server_time=clock.server,
    )
    for number in range(40):
        for _ in range(2):
            await limiter.try_acquire(f"u{number}")
    await client.flushall()
    known = [not (await limiter.try_acquire(f"u{number}")).allowed for number in range(40)]
    assert known == [False] * 30 + [True] * 10


async def test_both_faces_are_policies_by_key() -> None:
    server = fakeredis.FakeServer()
    later = KeyedLimit(
        AsyncRedisRateLimiter(fakeredis.FakeAsyncRedis(server=server), FIVE, name="t"),
        key=lambda user, *_: f"user:{user}",
    )
    plain = KeyedLimit(
        RedisRateLimiter(fakeredis.FakeRedis(server=server), FIVE, name="t"), key=str
    )
    guarded = later(asyncio.sleep)
    assert [await guarded(0, number) for number in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(RateLimitedError, match="'t' \\(5 per 5 s\\) is exhausted"):
        await guarded(0)
    assert plain.run(str, 7) == "7"
    with pytest.raises(TypeError, match="is for asyncio"):
        later(str)
    with pytest.raises(TypeError, match="arun"):
        later.run(str, 7)


async def test_those_who_wait_for_a_key_go_first_come_first_served(clock: Clock) -> None:
    naps: list[float] = []

    async def sleep(seconds: float) -> None:
        naps.append(seconds)
        await asyncio.sleep(0)
        clock.advance(seconds)

    limiter = AsyncRedisRateLimiter(
        OverAWire(),
        LimitConfig(rate=1, per_seconds=10),
        name="t",
        clock=clock,
        sleep=sleep,
        server_time=clock.server,
        timeout_seconds=5,
    )
    order: list[int] = []

    async def visit(number: int) -> None:
        await limiter.acquire("hot")
        order.append(number)

    await limiter.acquire("hot")
    tasks = [asyncio.create_task(visit(number)) for number in range(5)]
    await asyncio.sleep(0)
    tasks[2].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert order == [0, 1, 3, 4]
    assert naps == [10] * 4  # only the first in line asks, and sleeps
    assert limiter.snapshot()["waiting_keys"] == 0


async def test_a_turn_that_does_not_come_in_time_is_refused(clock: Clock) -> None:
    async def for_ever(_: float) -> None:
        await asyncio.Event().wait()

    limiter = AsyncRedisRateLimiter(
        OverAWire(), FIVE, name="t", clock=clock, sleep=for_ever, server_time=clock.server
    )
    await limiter.acquire("hot", 5)
    first = asyncio.create_task(limiter.acquire("hot"))
    await asyncio.sleep(0)
    with pytest.raises(RateLimitedError):
        await limiter.acquire("hot", timeout=0.01)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    assert limiter.snapshot()["waiting_keys"] == 0
