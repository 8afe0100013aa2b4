"""Lists that do not change are polled less often, where the user allows it."""

import asyncio
import random
import threading
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nacos_client import InvalidArgumentError, NacosClient, Settings
from nacos_client._background import BackgroundLoop
from nacos_client._delivery import Delivery
from nacos_client._instance_watch import (
    InstanceWatches,
    ServiceState,
    instances_differ,
    stretch_pause,
)
from nacos_client._keys import ServiceKey
from nacos_client._naming import NamingOperations
from nacos_client._steps import Operation
from nacos_client.errors import ServerUnavailableError
from nacos_client.models import Instance
from nacos_client.testing import FakeNacosServer

HOUR = 3600.0
KEY = ServiceKey("public", "DEFAULT_GROUP", "orders")


class Service(NamingOperations):
    """One instance whose port is the number of its version, in time that passes at once."""

    def __init__(self, happen: Callable[["Service"], None] = lambda _: None) -> None:
        self.now = 0.0
        self.version = 1
        self.down = False
        self.polled_at: list[float] = []
        self.is_over = threading.Event()
        self._happen = happen

    def list_instances(self, key: ServiceKey) -> Operation[tuple[Instance, ...]]:
        self.polled_at.append(self.now)
        self._happen(self)
        if self.down:
            raise ServerUnavailableError("list", ())
        return (Instance(key.service, "10.0.0.1", self.version),)
        yield

    async def run(self, operation: Operation[object]) -> object:
        try:
            next(operation)
        except StopIteration as done:
            return done.value
        raise AssertionError("it yields nothing")

    async def sleep(self, seconds: float) -> None:
        if self.now + seconds > HOUR:
            self.is_over.set()
            await asyncio.Event().wait()
        self.now += seconds


async def nothing() -> None:
    """The loop of a test holds nothing to close."""


def watch_for_an_hour(service: Service, quiet_poll_seconds: float | None) -> list[float]:
    """When the service was polled."""
    background = BackgroundLoop("nacos-quiet", nothing)
    watches = InstanceWatches(
        service,
        service.run,
        background,
        poll_seconds=5.0,
        quiet_poll_seconds=quiet_poll_seconds,
        empty_hold_seconds=15.0,
        clock=lambda: service.now,
        rng=random.Random(5),
        sleep=service.sleep,
    )

    def hear(_: ServiceState, __: ServiceState | None) -> None:
        """Nothing to do."""

    loop = background.get_loop()
    watches.watch(KEY, Delivery("test", loop, hear, differs=instances_differ))
    assert service.is_over.wait(20)
    background.close().result(20)
    return service.polled_at


def pauses(times: list[float]) -> list[float]:
    return [later - earlier for earlier, later in pairwise(times)]


def test_by_default_no_list_is_polled_less_often() -> None:
    times = watch_for_an_hour(Service(), None)
    assert max(pauses(times)) <= 5
    assert 790 < len(times) < 810  # 13.3 a minute


def test_a_quiet_interval_of_30_seconds_saves_five_polls_of_six() -> None:
    times = watch_for_an_hour(Service(), 30.0)
    assert max(pauses(times)[:11]) <= 5
    assert 24 <= max(pauses(times)) <= 30
    assert 130 < len(times) < 150  # 2.3 a minute


def test_a_change_brings_the_usual_interval_back() -> None:
    def change(service: Service) -> None:
        if service.now > HOUR / 2:
            service.version = 2

    times = watch_for_an_hour(Service(change), 30.0)
    after = [each for each in times if each > HOUR / 2]
    assert max(pauses(after)[:12]) <= 5 < max(pauses(after)[13:])


def test_an_outage_brings_the_usual_interval_back() -> None:
    def fail(service: Service) -> None:
        service.down = HOUR / 2 < service.now < HOUR / 2 + 300

    times = watch_for_an_hour(Service(fail), 30.0)
    during = [each for each in times if HOUR / 2 < each < HOUR / 2 + 300]
    assert max(pauses(during)) <= 5


@given(
    pause=st.floats(0.001, 3600),
    unchanged=st.integers(0, 10**9),
    longest=st.floats(0.001, 3600),
)
def test_a_pause_grows_up_to_the_longest_and_never_shrinks(
    pause: float, unchanged: int, longest: float
) -> None:
    stretched = stretch_pause(pause, unchanged, longest)
    assert pause <= stretched <= max(pause, longest)
    assert stretched <= stretch_pause(pause, unchanged + 1, longest)
    if unchanged <= 12:
        assert stretched == pause


def test_the_option_is_read_and_checked(server: FakeNacosServer) -> None:
    environment = {"NACOS_QUIET_POLL_SECONDS": "30"}
    assert Settings.load(server.address, {}, environment).quiet_poll_seconds == 30
    assert Settings.load(server.address, {}, {}).quiet_poll_seconds is None
    with pytest.raises(InvalidArgumentError, match="quiet_poll_seconds"):
        NacosClient(server.address, quiet_poll_seconds=0)
