"""What only this engine has: leases, outages, clocks. Keep the questions for yours."""

import asyncio
import json
import logging
import os
import sys
import threading
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from microservice_core import (
    InstanceQuery,
    InvalidValueError,
    ServiceInstance,
    ServiceRegistryError,
    ServiceRegistryUnavailableError,
)
from microservice_core.testing import ManualClock, eventually
from service_registry_template import JsonFolderServiceRegistry

ORDERS = ServiceInstance("orders", "10.0.0.7", 8000)


class Heart:
    """Lets the keeper's thread beat when the test says so."""

    def __init__(self) -> None:
        self._turns = threading.Semaphore(0)
        self._asked = threading.Semaphore(0)

    def wait(self, ended: threading.Event, seconds: float) -> bool:
        self._asked.release()
        while not self._turns.acquire(timeout=0.01):
            if ended.is_set():
                return True
        return ended.is_set()

    async def beat(self) -> None:
        """One round of beats, from the thread, finished."""
        await asyncio.to_thread(self._asked.acquire)
        self._turns.release()
        await asyncio.to_thread(self._asked.acquire)
        self._asked.release()


class World:
    """A folder, a clock, and registries of several processes that share both."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self.clock = ManualClock()
        self.wall = 1_000_000_000.0
        self.heart = Heart()
        self.registries: list[JsonFolderServiceRegistry] = []

    def wall_clock(self) -> float:
        return self.wall

    def registry(self) -> JsonFolderServiceRegistry:
        registry = JsonFolderServiceRegistry(
            self.folder,
            clock=self.clock,
            wall_clock=self.wall_clock,
            sleep=self.clock.sleep,
            wait=self.heart.wait,
        )
        self.registries.append(registry)
        return registry

    def file(self) -> Path:
        (file,) = self.folder.rglob("*.json")
        return file

    def stamp(self, seconds: float) -> None:
        """As if the last beat was then, by the wall clock."""
        os.utime(self.file(), (seconds, seconds))

    async def look(self) -> None:
        """Let a poll take place: its time comes, and it sleeps again."""

        async def sleeping() -> int:
            await asyncio.sleep(0)
            return self.clock.sleepers

        await eventually(sleeping, lambda sleepers: sleepers == 1)
        self.clock.advance(1.0)
        await eventually(sleeping, lambda sleepers: sleepers == 1)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path / "instances")
    yield world
    for registry in world.registries:
        await registry.close()


async def test_who_is_silent_for_its_time_is_gone_and_a_beat_brings_it_back(world: World) -> None:
    owner, reader = world.registry(), world.registry()
    await owner.register(ORDERS)
    world.stamp(world.wall)
    assert await reader.get_instances("orders") == (ORDERS,)
    world.clock.advance(14.9)
    assert await reader.get_instances("orders") == (ORDERS,)
    world.clock.advance(0.1)
    assert await reader.get_instances("orders") == ()
    await world.heart.beat()
    assert await reader.get_instances("orders") == (ORDERS,)


async def test_a_reader_that_comes_late_does_not_see_the_dead(world: World) -> None:
    await world.registry().register(ORDERS)
    world.stamp(world.wall - 15)
    assert await world.registry().get_instances("orders") == ()


@pytest.mark.parametrize("jump", [-86400.0, 86400.0])
async def test_a_jump_of_the_wall_clock_kills_nobody_and_revives_nobody(
    world: World, jump: float
) -> None:
    owner, reader = world.registry(), world.registry()
    await owner.register(ORDERS)
    world.stamp(world.wall)
    assert await reader.get_instances("orders") == (ORDERS,)
    world.wall += jump
    assert await reader.get_instances("orders") == (ORDERS,)
    world.clock.advance(15)
    assert await reader.get_instances("orders") == ()


async def test_the_beats_come_from_a_thread_and_restore_what_was_lost(world: World) -> None:
    owner = world.registry()
    await owner.register(ORDERS)
    world.file().unlink()
    await world.heart.beat()
    assert world.file().exists()


async def test_no_late_beat_brings_back_what_was_deregistered(world: World) -> None:
    owner = world.registry()
    await owner.register(ORDERS)
    await owner.deregister(ORDERS)
    await world.heart.beat()
    assert list(world.folder.rglob("*.json")) == []


async def test_the_record_of_the_long_dead_is_taken_away(world: World) -> None:
    owner, reader = world.registry(), world.registry()
    await owner.register(ORDERS)
    world.stamp(world.wall)
    await reader.get_instances("orders")
    world.clock.advance(15 * 10)
    assert await reader.get_instances("orders") == ()
    assert world.file().exists()
    world.clock.advance(0.1)
    assert await reader.get_instances("orders") == ()
    assert list(world.folder.rglob("*.json")) == []


async def test_a_persistent_instance_needs_no_beats(world: World) -> None:
    stays = ServiceInstance("orders", "10.0.0.7", 8000, ephemeral=False)
    await world.registry().register(stays)
    world.stamp(0.0)
    assert await world.registry().get_instances("orders") == (stays,)


async def test_a_folder_that_vanishes_is_an_outage_and_empties_no_list(
    world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    owner, reader = world.registry(), world.registry()
    await owner.register(ORDERS)
    world.stamp(world.wall)
    updates: list[Sequence[ServiceInstance]] = []
    reader.watch_instances("orders", updates.append)
    await world.look()
    world.folder.rename(tmp_path / "away")
    with caplog.at_level(logging.WARNING, logger="service_registry_template"):
        for _ in range(3):
            await world.look()
        await world.heart.beat()
        await world.heart.beat()
    assert updates == [(ORDERS,)]
    assert len(caplog.records) == 2  # the watch and the beats, once each
    with pytest.raises(ServiceRegistryUnavailableError, match="mount it") as caught:
        await reader.get_instances("orders")
    assert caught.value.retryable
    (tmp_path / "away").rename(world.folder)
    await owner.deregister(ORDERS)
    await world.look()
    assert updates == [(ORDERS,), ()]


async def test_a_file_that_is_none_of_ours_is_passed_over(world: World) -> None:
    await world.registry().register(ORDERS)
    world.stamp(world.wall)
    own_file = world.file()
    lives_for_no_time = {**json.loads(own_file.read_text()), "ttl_seconds": 0, "port": 1}
    garbage = ("garbage", "[]", "{}", '{"ip": 7}', json.dumps(lives_for_no_time))
    for number, text in enumerate(garbage):
        own_file.with_name(f"_{number}.json").write_text(text)
    own_file.with_name("_folder.json").mkdir()
    assert await world.registry().get_instances("orders") == (ORDERS,)


async def test_groups_and_namespaces_are_apart_and_the_catalog_lists_the_living(
    world: World,
) -> None:
    owner, reader = world.registry(), world.registry()
    await owner.register(ServiceInstance("orders", "10.0.0.7", 1, group_name="g"))
    world.stamp(world.wall)
    assert await reader.get_instances("orders") == ()
    assert len(await reader.get_instances("orders", InstanceQuery(group_name="g"))) == 1
    assert await reader.list_services() == []
    assert await reader.list_services(group_name="g") == ["orders"]
    world.clock.advance(15)
    assert await reader.list_services(group_name="g") == []


@pytest.mark.parametrize("name", ["..", "../up", "a/b", "C:\\x", ".hidden", "名字", "a b"])
async def test_no_name_leaves_the_folder(world: World, tmp_path: Path, name: str) -> None:
    instance = ServiceInstance(
        name, "fe80::1", 1, instance_id=name, group_name=name, namespace_id=name
    )
    await world.registry().register(instance)
    world.stamp(world.wall)
    query = InstanceQuery(group_name=name, namespace_id=name)
    assert await world.registry().get_instances(name, query) == (instance,)
    assert os.listdir(tmp_path) == ["instances"]  # noqa: PTH208


async def test_an_impossible_name_is_refused_at_once(world: World) -> None:
    with pytest.raises(InvalidValueError, match="service_name"):
        world.registry().watch_instances("", print)
    with pytest.raises(InvalidValueError, match="instance_id"):
        await world.registry().register(ServiceInstance("a", "10.0.0.7", 1, instance_id="x" * 200))


async def test_closing_deregisters_and_what_is_closed_says_so(world: World) -> None:
    owner = world.registry()
    await owner.register(ORDERS)
    await owner.close()
    assert list(world.folder.rglob("*.json")) == []
    with pytest.raises(ServiceRegistryError, match="it is closed"):
        await owner.register(ORDERS)


def ends_well(registry: JsonFolderServiceRegistry) -> bool:
    """Whether a child refuses to use its parent's registry, and closes it."""
    refused: list[str] = []

    async def use() -> None:
        try:
            await registry.register(ORDERS)
        except ServiceRegistryError as error:
            refused.append(str(error))
        await registry.close()

    thread = threading.Thread(target=lambda: asyncio.run(use()))
    thread.start()
    thread.join()
    return any("open one per process" in message for message in refused)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")
async def test_a_forked_child_takes_nothing_of_its_parents_along(world: World) -> None:
    registry = world.registry()
    await registry.register(ORDERS)
    child = os.fork()
    if child == 0:
        os._exit(0 if ends_well(registry) else 1)
    _, status = await asyncio.to_thread(os.waitpid, child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert world.file().exists()
    await world.heart.beat()


DIES = """
import asyncio, os, sys
from microservice_core import ServiceInstance, open_service_registry
async def main():
    async with open_service_registry("json-folder", {"folder": sys.argv[1]}) as registry:
        await registry.register(ServiceInstance("orders", "10.0.0.7", 8000))
        os._exit(9)
asyncio.run(main())
"""


async def test_what_a_killed_process_registered_ends_with_its_lease(tmp_path: Path) -> None:
    killed = await asyncio.create_subprocess_exec(sys.executable, "-c", DIES, str(tmp_path))
    assert await killed.wait() == 9
    clock = ManualClock()
    reader = JsonFolderServiceRegistry(tmp_path, clock=clock)
    assert len(await reader.get_instances("orders")) == 1
    clock.advance(15)
    assert await reader.get_instances("orders") == ()
    await reader.close()
