"""Beats in virtual time: their schedule, failures, forgotten instances, one in flight."""

import asyncio
import heapq
import random
from collections.abc import Awaitable
from typing import Any

import pytest

from nacos_client import (
    ClientClosedError,
    InstanceNotFound,
    Registration,
    ServerUnavailableError,
)
from nacos_client._heartbeat import Heartbeats
from nacos_client._naming import NamingOperations
from nacos_client._steps import Operation

TEN_MINUTES = 600.0


class VirtualTime:
    """A clock and a sleep that only `advance` moves."""

    def __init__(self) -> None:
        self.now = 0.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = 0
        self.next_sleep_fails = False

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        if self.next_sleep_fails:
            self.next_sleep_fails = False
            raise RuntimeError("a bug")
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._order += 1
        heapq.heappush(self._sleepers, (self.now + seconds, self._order, future))
        await future

    async def advance(self, seconds: float) -> None:
        until = self.now + seconds
        await settle()
        while self._sleepers and self._sleepers[0][0] <= until:
            at, _, future = heapq.heappop(self._sleepers)
            self.now = max(self.now, at)
            if not future.done():
                future.set_result(None)
            await settle()
        self.now = max(self.now, until)


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


class Server(NamingOperations):
    """Records its calls and their times; fails on demand."""

    def __init__(self, time: VirtualTime) -> None:
        self.time = time
        self.beats: list[float] = []
        self.registered: list[Registration] = []
        self.deregistered: list[Registration] = []
        self.failure: Exception | None = None
        self.hang: asyncio.Event | None = None
        self.in_flight = 0
        self.most_in_flight = 0

    def beat(
        self, registration: Registration, *, timeout_seconds: float | None = None
    ) -> Operation[None]:
        assert timeout_seconds is not None
        assert timeout_seconds < 5
        yield from self._record(self.beats, self.time.now)

    def register(
        self, registration: Registration, *, timeout_seconds: float | None = None
    ) -> Operation[None]:
        self.registered.append(registration)
        return
        yield

    def deregister(
        self, registration: Registration, *, timeout_seconds: float | None = None
    ) -> Operation[None]:
        yield from self._record(self.deregistered, registration)

    def _record(self, record: list[Any], call: Any) -> Operation[None]:
        record.append(call)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            yield None  # type: ignore[misc]
            if self.failure is not None:
                raise self.failure
        finally:
            self.in_flight -= 1

    async def run(self, operation: Operation[Any]) -> Any:
        try:
            next(operation)
            if self.hang is not None:
                await self.hang.wait()
            operation.send(None)
        except StopIteration as done:
            return done.value
        finally:
            operation.close()


@pytest.fixture
def time() -> VirtualTime:
    return VirtualTime()


@pytest.fixture
def server(time: VirtualTime) -> Server:
    return Server(time)


@pytest.fixture
def heartbeats(time: VirtualTime, server: Server) -> Heartbeats:
    return Heartbeats(server, server.run, clock=time.clock, rng=random.Random(3), sleep=time.sleep)


ORDERS = Registration("orders", "10.0.0.1", 80, weight=3.0, metadata={"version": "1"})


async def finish(work: Awaitable[Any]) -> None:
    await asyncio.wait_for(work, 5)


async def test_beats_come_at_most_a_twentieth_before_their_interval(
    heartbeats: Heartbeats, server: Server, time: VirtualTime
) -> None:
    await heartbeats.start(ORDERS)
    await time.advance(600)
    gaps = [after - before for before, after in zip(server.beats, server.beats[1:], strict=False)]
    assert server.beats[0] <= 5
    assert all(4.75 <= gap <= 5.0 for gap in gaps)
    assert len(set(gaps)) > 10
    assert heartbeats.status.worst_lag_seconds == 0
    await finish(heartbeats.aclose())


async def test_the_interval_is_the_one_of_the_metadata(
    heartbeats: Heartbeats, server: Server, time: VirtualTime
) -> None:
    quick = Registration(
        "orders", "10.0.0.1", 80, metadata={"preserved.heart.beat.interval": "1000"}
    )
    await heartbeats.start(quick)
    await time.advance(60)
    assert 60 <= len(server.beats) <= 67
    await finish(heartbeats.aclose())


async def test_many_instances_do_not_beat_in_step(
    heartbeats: Heartbeats, server: Server, time: VirtualTime
) -> None:
    for number in range(100):
        await heartbeats.start(Registration("orders", f"10.0.0.{number}", 80))
    await time.advance(5)
    assert len({round(at, 1) for at in server.beats}) > 15
    await finish(heartbeats.aclose())


async def test_an_instance_the_server_forgot_is_registered_again_with_everything(
    heartbeats: Heartbeats, server: Server, time: VirtualTime
) -> None:
    await heartbeats.start(ORDERS)
    server.failure = InstanceNotFound("beat", status=200, code=21003)
    await time.advance(5)
    assert server.registered == [ORDERS]
    assert heartbeats.status.reregistered == 1
    assert heartbeats.status.failed == 0
    server.failure = None
    await time.advance(60)
    assert server.registered == [ORDERS]
    await finish(heartbeats.aclose())


@pytest.mark.parametrize(
    "failure", [ServerUnavailableError("beat", ("gone",)), RuntimeError("a bug")], ids=str
)
async def test_no_failure_ends_the_beats_and_each_is_repeated_after_a_fifth_of_the_interval(
    heartbeats: Heartbeats,
    server: Server,
    time: VirtualTime,
    failure: Exception,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    await heartbeats.start(ORDERS)
    server.failure = failure
    await time.advance(TEN_MINUTES)
    assert len(server.beats) > TEN_MINUTES / 1.2
    assert heartbeats.status.failed == len(server.beats)
    server.failure = None
    failed = len(server.beats)
    await time.advance(60)
    assert failed + 12 <= len(server.beats) <= failed + 15
    assert sum("arrive again" in record.message for record in caplog.records) == 1
    assert sum("beat of" in record.message for record in caplog.records) == 1
    await finish(heartbeats.aclose())


async def test_one_beat_of_an_instance_is_in_flight_at_most(
    heartbeats: Heartbeats, server: Server, time: VirtualTime
) -> None:
    server.hang = asyncio.Event()
    await heartbeats.start(ORDERS)
    await time.advance(TEN_MINUTES)
    assert server.most_in_flight == 1
    server.hang.set()
    await settle()
    server.hang = None
    await time.advance(60)
    assert heartbeats.status.worst_lag_seconds < 1
    await finish(heartbeats.aclose())


async def test_a_late_wake_up_is_measured_and_not_made_up_for_by_a_burst(
    heartbeats: Heartbeats, server: Server, time: VirtualTime
) -> None:
    await heartbeats.start(ORDERS)
    await time.advance(20)
    before = len(server.beats)
    time.now += 100
    await time.advance(0)
    assert len(server.beats) - before <= 2
    assert heartbeats.status.worst_lag_seconds > 90
    await finish(heartbeats.aclose())


async def test_stopping_waits_for_the_beat_in_flight(
    heartbeats: Heartbeats, server: Server, time: VirtualTime
) -> None:
    server.hang = asyncio.Event()
    await heartbeats.start(ORDERS)
    await time.advance(5)
    assert server.in_flight == 1
    assert await heartbeats.stop(ORDERS.key) == ORDERS
    assert server.in_flight == 0
    assert await heartbeats.stop(ORDERS.key) is None
    assert await heartbeats.find(ORDERS.key) is None


async def test_starting_again_replaces_the_earlier_registration(
    heartbeats: Heartbeats, server: Server, time: VirtualTime
) -> None:
    newer = Registration("orders", "10.0.0.1", 80, weight=7.0)
    await heartbeats.start(ORDERS)
    await heartbeats.start(newer)
    assert await heartbeats.find(ORDERS.key) == newer
    await time.advance(50)
    assert len(server.beats) <= 12
    await finish(heartbeats.aclose())
    assert server.deregistered == [newer]


async def test_a_deregistration_that_fails_at_close_is_logged(
    heartbeats: Heartbeats, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    await heartbeats.start(ORDERS)
    server.failure = ServerUnavailableError("deregister", ("gone",))
    await finish(heartbeats.aclose())
    assert "will expire" in caplog.text


async def test_a_deregistration_that_hangs_at_close_is_cut_off(
    heartbeats: Heartbeats, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    await heartbeats.start(ORDERS)
    server.hang = asyncio.Event()
    await finish(heartbeats.aclose())
    assert "were not deregistered in time" in caplog.text
    assert heartbeats.status.instances == 0


async def test_two_starts_at_once_leave_one_heartbeat(
    heartbeats: Heartbeats, server: Server, time: VirtualTime
) -> None:
    server.hang = asyncio.Event()
    await heartbeats.start(ORDERS)
    await time.advance(5)
    newer = [Registration("orders", "10.0.0.1", 80, weight=weight) for weight in (5.0, 7.0)]
    await asyncio.gather(*(heartbeats.start(each) for each in newer))
    assert await heartbeats.find(ORDERS.key) in newer
    server.hang = None
    beats = len(server.beats)
    await time.advance(50)
    assert 10 <= len(server.beats) - beats <= 12
    await finish(heartbeats.aclose())


async def test_a_heartbeat_that_breaks_off_is_logged_and_restarted(
    heartbeats: Heartbeats,
    server: Server,
    time: VirtualTime,
    caplog: pytest.LogCaptureFixture,
) -> None:
    time.next_sleep_fails = True
    await heartbeats.start(ORDERS)
    await time.advance(60)
    assert "restarting it" in caplog.text
    assert len(server.beats) >= 11
    await finish(heartbeats.aclose())


async def test_after_close_nothing_is_kept_alive(heartbeats: Heartbeats) -> None:
    await finish(heartbeats.aclose())
    with pytest.raises(ClientClosedError):
        await heartbeats.start(ORDERS)
