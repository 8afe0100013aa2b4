"""What counts as a failure of Redis, what it costs, and how it is named."""

import asyncio
from typing import Any

import fakeredis
import pytest
import redis
import redis.asyncio
from redis.backoff import NoBackoff
from redis.retry import Retry

from microservice_core import InvalidValueError
from microservice_governance import (
    AsyncRedisRateLimiter,
    CircuitBreaker,
    LimitConfig,
    RateLimitedError,
    RedisBreakerSharing,
    RedisRateLimiter,
)

TEN = LimitConfig(rate=10, per_seconds=60)
GRANTED = b"1 9 -1 6000000"
MISTAKES = [TypeError("a mistake"), RuntimeError("event loop is closed"), KeyError("x")]
FAULTS = [
    redis.exceptions.AuthenticationError("WRONGPASS invalid username-password pair"),
    redis.exceptions.NoPermissionError("User x has no permissions to run 'evalsha'"),
    redis.exceptions.ReadOnlyError("You can't write against a read only replica."),
    redis.exceptions.OutOfMemoryError("command not allowed when used memory > 'maxmemory'."),
    redis.exceptions.ConnectionError("Connection refused"),
    redis.exceptions.TimeoutError(),
    TimeoutError(),
    ConnectionResetError("reset"),
    EOFError("closed"),
    ValueError("garbled"),
    AttributeError("lost during its set-up"),
]


class Script:
    """A client of either face whose commands end as a list says, then all are granted."""

    def __init__(self, *outcomes: Any) -> None:
        self.outcomes = list(outcomes)
        self.sent = 0

    def execute_command(self, *_: object) -> Any:
        self.sent += 1
        outcome = self.outcomes.pop(0) if self.outcomes else GRANTED
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome


class AsyncScript:
    """The same for asyncio; `takes` are the seconds that an exchange takes, in turn."""

    def __init__(
        self, *outcomes: Any, connecting: Any = 0.0, takes: tuple[float, ...] = ()
    ) -> None:
        self.script = Script(*outcomes)
        self.connection_pool = self
        self.connecting = connecting
        self.takes = list(takes)
        self.connections = 0
        self.closed = False

    async def get_connection(self) -> object:
        self.connections += 1
        connecting = (
            self.connecting.pop(0) if isinstance(self.connecting, list) else self.connecting
        )
        if isinstance(connecting, BaseException):
            for _ in range(9):
                await asyncio.sleep(0)
            raise connecting
        await asyncio.sleep(connecting)
        return self

    async def release(self, _: object) -> None:
        pass

    async def execute_command(self, *command: object) -> Any:
        await asyncio.sleep(self.takes.pop(0) if self.takes else 0)
        return self.script.execute_command(*command)

    def pipeline(self, **_: object) -> "Pipe":
        return Pipe(self)

    async def aclose(self) -> None:
        self.closed = True


class Pipe:
    def __init__(self, client: AsyncScript) -> None:
        self.client = client
        self.commands = 0

    def execute_command(self, *_: object) -> None:
        self.commands += 1

    async def execute(self, **_: object) -> list[Any]:
        first = await self.client.execute_command()
        return [first] + [GRANTED] * (self.commands - 1)


def plain_limiter(client: Any, **settings: Any) -> RedisRateLimiter:
    return RedisRateLimiter(client, TEN, name="t", **settings)


def async_limiter(client: Any, **settings: Any) -> AsyncRedisRateLimiter:
    return AsyncRedisRateLimiter(client, TEN, name="t", **settings)


@pytest.mark.parametrize("fault", FAULTS, ids=repr)
def test_three_faults_in_a_row_end_sharing_and_are_named(
    fault: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    limiter = plain_limiter(Script(*[fault] * 3))
    assert [limiter.try_acquire("u").allowed for _ in range(3)] == [True] * 3
    snapshot = limiter.snapshot()
    assert snapshot["shared"] is False
    assert str(snapshot["failure"]).startswith(type(fault).__name__)
    [record] = caplog.records
    assert str(snapshot["failure"]) in record.message
    assert str(fault) in record.message


def test_a_cause_is_one_short_printable_line(caplog: pytest.LogCaptureFixture) -> None:
    fault = redis.exceptions.ResponseError("line\nof \x1b[31m" + "x" * 10_000)
    limiter = plain_limiter(Script(*[fault] * 3))
    for _ in range(3):
        limiter.try_acquire("u")
    assert limiter.snapshot()["failure"] == f"ResponseError: line of [31m{'x' * 148}"
    assert len(caplog.records) == 1


def test_the_cause_is_gone_when_redis_responds(caplog: pytest.LogCaptureFixture) -> None:
    limiter = plain_limiter(Script(ConnectionError("gone")))
    limiter.try_acquire("u")
    assert limiter.snapshot()["failure"] == "ConnectionError: gone"
    limiter.try_acquire("u")
    assert limiter.snapshot()["failure"] is None


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: type(mistake).__name__)
async def test_a_mistake_in_the_program_comes_out_and_ends_nothing(mistake: Exception) -> None:
    plain = plain_limiter(Script(*[mistake] * 5))
    later = async_limiter(AsyncScript(*[mistake] * 5))
    for _ in range(5):
        with pytest.raises(type(mistake)):
            plain.try_acquire("u")
        with pytest.raises(type(mistake)):
            await later.try_acquire("u")
    assert plain.try_acquire("u").remaining == 9
    assert (await later.try_acquire("u")).remaining == 9
    assert plain.snapshot()["shared"] is later.snapshot()["shared"] is True


async def test_a_batch_that_fails_is_one_failure() -> None:
    client = AsyncScript(GRANTED, ConnectionError("lost"), ConnectionError("lost"))
    limiter = async_limiter(client)
    for _ in range(2):
        await asyncio.gather(*(limiter.try_acquire(f"u{n}") for n in range(8)))
    assert limiter.snapshot()["shared"] is True
    assert (await limiter.try_acquire("v")).remaining == 9


def test_a_response_that_came_while_the_loop_stalled_is_taken(in_virtual_time: Any) -> None:
    async def scenario() -> None:
        loop: Any = asyncio.get_running_loop()
        client = AsyncScript(takes=(0.001, 0.01, 0.011, 0.01))
        limiter = async_limiter(client)
        await limiter.try_acquire("warm")
        for _ in range(2):
            loop.call_later(0.005, stall, loop)
            decisions = await asyncio.gather(*(limiter.try_acquire(f"u{n}") for n in range(8)))
            assert {decision.remaining for decision in decisions} == {9}
        assert limiter.snapshot()["shared"] is True
        assert limiter.snapshot()["failure"] is None

    def stall(loop: Any) -> None:
        loop.now += 0.08

    in_virtual_time(scenario())


def test_a_stall_while_connecting_is_no_reason_to_go_on_without(in_virtual_time: Any) -> None:
    async def scenario() -> None:
        loop: Any = asyncio.get_running_loop()
        limiter = async_limiter(AsyncScript(connecting=0.02))
        loop.call_later(0.005, lambda: setattr(loop, "now", loop.now + 0.08))
        assert (await limiter.try_acquire("u")).remaining == 9
        assert limiter.snapshot()["failure"] is None

    in_virtual_time(scenario())


async def test_an_error_for_one_of_a_batch_is_of_no_other() -> None:
    class OneFails(Pipe):
        async def execute(self, **_: object) -> list[Any]:
            return [redis.exceptions.ResponseError("odd"), *(await super().execute())[1:]]

    class Client(AsyncScript):
        def pipeline(self, **_: object) -> Pipe:
            return OneFails(self)

    limiter = async_limiter(Client())
    await asyncio.gather(*(limiter.try_acquire(f"u{n}") for n in range(8)))
    assert limiter.snapshot()["shared"] is True


def test_a_caller_that_is_cancelled_in_a_batch_is_no_failure(in_virtual_time: Any) -> None:
    async def scenario() -> None:
        client = AsyncScript(GRANTED, ConnectionError("lost"), takes=(0.01, 0.01))
        limiter = async_limiter(client)
        tasks = [asyncio.create_task(limiter.try_acquire(f"u{n}")) for n in range(3)]
        await asyncio.sleep(0.005)
        tasks[1].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert tasks[1].cancelled()
        assert limiter.snapshot()["failure"] == "ConnectionError: lost"

    in_virtual_time(scenario())


def test_a_few_stalls_in_a_row_are_no_failure_of_redis(in_virtual_time: Any) -> None:
    async def scenario() -> None:
        loop: Any = asyncio.get_running_loop()

        def stall(times: int) -> None:
            loop.now += 0.08
            if times > 1:
                loop.call_later(0.001, stall, times - 1)

        limiter = async_limiter(AsyncScript(takes=(0, 0.39)))
        await limiter.try_acquire("warm")
        loop.call_later(0.001, stall, 5)
        assert (await limiter.try_acquire("u")).remaining == 9
        assert limiter.snapshot()["failure"] is None

    in_virtual_time(scenario())


def test_a_loop_that_always_is_late_does_not_wait_for_ever(in_virtual_time: Any) -> None:
    async def scenario() -> None:
        loop: Any = asyncio.get_running_loop()

        def stall() -> None:
            loop.now += 0.08
            loop.call_later(0.001, stall)

        limiter = async_limiter(AsyncScript(takes=(1e6,) * 3))
        loop.call_later(0.001, stall)
        for _ in range(3):
            assert (await limiter.try_acquire("u")).allowed
        assert limiter.snapshot()["failure"] == "TimeoutError: no response in time"
        assert loop.time() < 5

    in_virtual_time(scenario())


def test_connecting_has_a_time_of_its_own(in_virtual_time: Any) -> None:
    async def scenario() -> None:
        client = AsyncScript(connecting=0.2, takes=(0.03,) * 40)
        limiter = async_limiter(client)
        began = asyncio.get_running_loop().time()
        first = await limiter.try_acquire("u")
        assert (first.allowed, client.script.sent) == (True, 0)  # nothing is taken twice
        assert asyncio.get_running_loop().time() - began == pytest.approx(0.05)
        assert limiter.snapshot()["shared"] is False
        await asyncio.gather(*(limiter.try_acquire(f"v{n}") for n in range(9)))
        assert asyncio.get_running_loop().time() - began == pytest.approx(0.05)
        await asyncio.sleep(0.16)
        assert (await limiter.try_acquire("u")).remaining == 9
        assert client.script.sent == client.connections == 1
        assert limiter.snapshot()["shared"] is True

    in_virtual_time(scenario())


def test_a_connection_that_fails_late_is_one_failure(
    in_virtual_time: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        limiter = async_limiter(AsyncScript(connecting=1e6), connect_timeout_seconds=0.3)
        for _ in range(200):
            await limiter.try_acquire("u", 0)
            await asyncio.sleep(0.01)
        assert limiter.snapshot()["failure"] == "TimeoutError: no response in time"
        assert limiter.snapshot()["shared"] is False
        [record] = caplog.records
        assert "cannot use Redis (TimeoutError: no response in time)" in record.message
        await limiter.aclose()

    in_virtual_time(scenario())


async def test_a_connection_that_is_refused_is_one_failure_for_all_who_wait() -> None:
    client = AsyncScript(connecting=[ConnectionRefusedError("no")] * 2 + [0] * 9)
    limiter = async_limiter(client)
    for _ in range(2):
        await asyncio.gather(*(limiter.try_acquire(f"u{n}") for n in range(8)))
    assert limiter.snapshot()["failure"] == "ConnectionRefusedError: no"
    assert (await limiter.try_acquire("v")).remaining == 9


def test_closing_ends_a_connection_attempt(in_virtual_time: Any) -> None:
    async def scenario() -> None:
        client = AsyncScript(connecting=1e6)
        limiter = async_limiter(client)
        waiting = asyncio.create_task(limiter.try_acquire("u"))
        await asyncio.sleep(0.01)
        await limiter.aclose()
        assert (await waiting).allowed
        assert client.closed is False  # it was given

    in_virtual_time(scenario())


def test_a_wait_without_redis_for_more_than_its_part_is_a_wait() -> None:
    now, naps = 0.0, list[float]()

    def sleep(seconds: float) -> None:
        nonlocal now
        naps.append(seconds)
        now += seconds

    client = Script(*[ConnectionError("down")] * 5)
    limiter = plain_limiter(client, replicas=4, clock=lambda: now, sleep=sleep)
    refused = [limiter.try_acquire("job", 5) for _ in range(3)]
    assert min(decision.retry_after for decision in refused) > 0
    limiter.acquire("job", 5)
    assert client.sent == 6
    assert min(naps) >= 0.5
    client.outcomes = [ConnectionError("down")] * 3
    with pytest.raises(RateLimitedError):
        limiter.acquire("job", 5, timeout=0.1)


@pytest.mark.parametrize("hard", [False, True])
def test_a_part_below_one_unit_is_a_longer_period(hard: bool) -> None:
    now = 0.0
    client = Script(*[ConnectionError("down")] * 1000)
    limiter = RedisRateLimiter(
        client,  # type: ignore[arg-type]
        LimitConfig(rate=5, per_seconds=60, hard=hard),
        name="t",
        replicas=20,
        clock=lambda: now,
    )
    passed = 0
    for _ in range(20):
        passed += limiter.try_acquire("u").allowed
        now += 60
    # Twenty of these let 100 pass in 20 minutes, as the limit does.
    assert passed == (4 if hard else 5)


def test_retries_of_a_clients_own_are_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    plain_limiter(redis.Redis(retry=Retry(NoBackoff(), 0)))
    assert caplog.records == []
    limiter = plain_limiter(redis.Redis(retry=Retry(NoBackoff(), 3)))
    async_limiter(redis.asyncio.Redis(retry=redis.asyncio.retry.Retry(NoBackoff(), 3)))
    said = [record.message for record in caplog.records]
    assert len(said) == 2
    assert all("repeats a failed command 3 times by itself" in message for message in said)
    limiter.close()


async def test_a_client_made_from_a_url_has_no_retries_and_is_closed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with RedisRateLimiter.from_url("redis://127.0.0.1:1", TEN, name="t") as limiter:
        for _ in range(3):
            limiter.try_acquire("u")
    async with AsyncRedisRateLimiter.from_url("redis://127.0.0.1:1", TEN, name="t") as later:
        for _ in range(3):
            await later.try_acquire("u")
    said = [record.message for record in caplog.records]
    assert len(said) == 2
    assert all("cannot use Redis (ConnectionError: " in message for message in said)


async def test_a_given_client_stays_open() -> None:
    client = AsyncScript()
    async with async_limiter(client) as limiter:
        await limiter.try_acquire("u")
    assert not client.closed
    server = fakeredis.FakeRedis()
    with plain_limiter(server) as plain:
        plain.try_acquire("u")
    assert server.ping()


@pytest.mark.parametrize("field", ["timeout_seconds", "connect_timeout_seconds"])
async def test_a_time_out_of_range_is_refused(field: str) -> None:
    with pytest.raises(InvalidValueError, match=f"{field} must be above 0"):
        async_limiter(AsyncScript(), **{field: 0})


@pytest.mark.parametrize("cost", [0.5, "1"])
async def test_a_cost_that_is_no_whole_number_is_refused(cost: Any) -> None:
    client = Script()
    with pytest.raises(InvalidValueError, match="cost must be a whole number"):
        plain_limiter(client).try_acquire("u", cost)
    with pytest.raises(InvalidValueError, match="cost must be a whole number"):
        plain_limiter(client).acquire("u", cost)
    assert client.sent == 0


def test_a_name_that_cannot_be_encoded_is_refused() -> None:
    with pytest.raises(InvalidValueError, match="name must be a text that UTF-8 can encode"):
        RedisRateLimiter(Script(), TEN, name="\ud800")  # type: ignore[arg-type]


class Cluster(AsyncScript, redis.asyncio.RedisCluster):  # type: ignore[misc]
    """Connects by itself, inside its first command."""


def test_a_cluster_has_the_time_to_connect_for_its_first_command(in_virtual_time: Any) -> None:
    async def scenario() -> None:
        client = Cluster(GRANTED, GRANTED, takes=(0.9, 0.02, 0.06, 0.9))
        limiter = async_limiter(client)
        assert (await limiter.try_acquire("a")).remaining == 9
        together = await asyncio.gather(*(limiter.try_acquire(f"u{n}") for n in range(2)))
        assert [decision.remaining for decision in together] == [9, 9]
        assert limiter.snapshot()["failure"] is not None  # the third took too long
        assert (await limiter.try_acquire("b")).remaining == 9
        assert client.connections == 0

    in_virtual_time(scenario())


def test_the_sharing_of_breakers_names_the_cause_too(caplog: pytest.LogCaptureFixture) -> None:
    client: Any = Script(*FAULTS[:1], [None])
    shared = RedisBreakerSharing(client, [CircuitBreaker("orders \ud800")], group="g")
    shared.exchange()
    assert "AuthenticationError: WRONGPASS" in caplog.records[0].message
    assert str(shared.snapshot()["failure"]).startswith("AuthenticationError")
    shared.exchange()
    assert shared.snapshot()["failure"] is None


async def test_a_mistake_that_shows_while_connecting_comes_out_and_ends_nothing() -> None:
    client = AsyncScript(connecting=[TypeError("a mistake")] * 5 + [0])
    limiter = async_limiter(client)
    for _ in range(5):
        with pytest.raises(TypeError, match="a mistake"):
            await limiter.try_acquire("u")
    assert (await limiter.try_acquire("u")).remaining == 9
    assert limiter.snapshot()["failure"] is None


def test_one_connection_serves_while_a_second_is_being_made(in_virtual_time: Any) -> None:
    async def scenario() -> None:
        client = AsyncScript(connecting=[0, 0.5], takes=(0, 0.01, 0.01, 0.01))
        limiter = async_limiter(client)
        await limiter.try_acquire("a")
        together = await asyncio.gather(*(limiter.try_acquire(f"u{n}") for n in range(3)))
        assert [decision.remaining for decision in together] == [9] * 3
        assert client.script.sent == 2  # those of the batch were decided without Redis
        await limiter.try_acquire("b")
        assert client.script.sent == 3
        assert limiter.snapshot()["shared"] is True
        await limiter.aclose()

    in_virtual_time(scenario())
