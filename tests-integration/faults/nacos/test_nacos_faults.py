"""A real Nacos is killed, paused and given a new key; nothing registered or watched is lost.

The servers are these tests' own, started and disturbed through the command in REFERENCE_SERVERS.
"""

import asyncio
import base64
import os
import random
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from own_servers import OwnServers

from nacos_client import (
    AsyncNacosClient,
    Config,
    ConfigNotFound,
    NacosClient,
    NacosError,
    ServerUnavailableError,
)
from nacos_client.testing.contract import eventually

pytestmark = pytest.mark.timeout(400)

GROUP = "faults"
INSTANCES = 100
WATCHES = 10


@pytest.fixture(autouse=True)
def own_snapshots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


@pytest.fixture(scope="session")
def nacos_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnServers]:
    port = random.randrange(11000, 19000, 50)
    ports = ["--port", str(port)]
    servers = OwnServers("nacos-cluster", tmp_path_factory.mktemp("cluster"), ports)
    try:
        servers.up()
        yield servers
    finally:
        servers.down()


def client(servers: OwnServers, **options: Any) -> AsyncNacosClient:
    environment = servers.environment()
    return AsyncNacosClient(
        environment["NACOS_SERVER_ADDR"],
        username=environment["NACOS_USERNAME"],
        password=environment["NACOS_PASSWORD"],
        group=GROUP,
        config_poll_seconds=1,
        instance_poll_seconds=1,
        **options,
    )


class Heard:
    """What the listeners of several documents were told, in order."""

    def __init__(self) -> None:
        self.contents: dict[str, list[str]] = {}

    def listen(self, config: Config) -> None:
        self.contents.setdefault(config.data_id, []).append(config.content)

    def all_ended_with(self, content: str, count: int) -> bool:
        return len(self.contents) == count and all(
            each[-1] == content for each in self.contents.values()
        )


async def listed(nacos: AsyncNacosClient, service: str) -> int:
    try:
        found = await nacos.naming.instances(service)
    except NacosError:
        return -1
    return -1 if found.stale else len(found)


async def test_after_a_kill_all_instances_and_watches_are_back_and_nothing_comes_twice(
    nacos: OwnServers,
) -> None:
    service, mark = f"kill-{uuid.uuid4().hex}", uuid.uuid4().hex
    documents = [f"kill-{mark}-{number}.yaml" for number in range(WATCHES)]
    heard = Heard()
    lengths: list[int] = []
    async with client(nacos) as registering, client(nacos) as watching:
        for name in documents:
            await watching.admin.publish(name, "version: 1")
            watching.config.watch(name, heard.listen)
        for number in range(INSTANCES):
            await registering.naming.register(service, f"10.7.0.{number}", 8000)
        watching.naming.subscribe(service, lambda instances: lengths.append(len(instances)))
        await eventually(lambda: heard.all_ended_with("version: 1", WATCHES))
        await eventually(lambda: lengths[-1:] == [INSTANCES])

        await asyncio.to_thread(nacos.kill)
        with pytest.raises(ServerUnavailableError):
            await watching.config.get("never-read-before")
        kept = await watching.config.get(documents[0])
        assert (kept.content, kept.source) == ("version: 1", "snapshot")
        await asyncio.to_thread(nacos.up)
        ready_at = time.monotonic()

        async def all_listed() -> bool:
            return await listed(watching, service) == INSTANCES

        await eventually(all_listed, 30)
        took = time.monotonic() - ready_at
        for name in documents:
            await watching.admin.publish(name, "version: 2")
        await eventually(lambda: heard.all_ended_with("version: 2", WATCHES))
        assert set(map(tuple, heard.contents.values())) == {("version: 1", "version: 2")}
        assert min(lengths[lengths.index(INSTANCES) :]) > 0, "an outage emptied the list"
        assert took < 6, f"listed {took:.1f} s after readiness"
        for name in documents:
            await watching.admin.delete(name)


async def test_a_pause_of_20_seconds_loses_no_instance_and_no_change(nacos: OwnServers) -> None:
    service, name = f"pause-{uuid.uuid4().hex}", f"pause-{uuid.uuid4().hex}.yaml"
    heard = Heard()
    async with client(nacos, timeout_seconds=3, attempt_seconds=1.5) as ours:
        await ours.admin.publish(name, "version: 1")
        ours.config.watch(name, heard.listen)
        for number in range(10):
            await ours.naming.register(service, f"10.7.1.{number}", 8000)
        await eventually(lambda: heard.all_ended_with("version: 1", 1))
        await asyncio.to_thread(nacos.pause)
        try:
            until = time.monotonic() + 20
            began = time.monotonic()
            assert (await ours.config.get(name)).source == "snapshot"
            assert time.monotonic() - began < 4
            await asyncio.sleep(until - time.monotonic())
        finally:
            await asyncio.to_thread(nacos.resume)

        async def all_healthy() -> bool:
            try:
                found = await ours.naming.instances(service, healthy_only=True)
            except NacosError:
                return False
            return len(found) == 10 and not found.stale

        await eventually(all_healthy, 10)
        await ours.admin.publish(name, "version: 2")
        await eventually(lambda: heard.all_ended_with("version: 2", 1))
        assert heard.contents[name] == ["version: 1", "version: 2"]
        await ours.admin.delete(name)


async def test_short_tokens_are_renewed_before_they_expire(nacos: OwnServers) -> None:
    await asyncio.to_thread(
        lambda: nacos.restart(nacos__core__auth__plugin__nacos__token__expire__seconds="5")
    )
    service = f"ttl-{uuid.uuid4().hex}"
    async with client(nacos) as ours:
        await ours.naming.register(service, "10.7.2.1", 8000)
        until = time.monotonic() + 17
        reads = 0
        while time.monotonic() < until:
            assert len(await ours.naming.instances(service)) == 1
            reads += 1
            await asyncio.sleep(0.1)
        status = ours.naming.beat_status
        assert status.failed == 0
        assert status.reregistered == 0
        assert reads > 50


async def test_a_new_secret_key_is_survived_by_logging_in_again(nacos: OwnServers) -> None:
    service, name = f"key-{uuid.uuid4().hex}", f"key-{uuid.uuid4().hex}.yaml"
    heard = Heard()
    async with client(nacos) as ours:
        await ours.admin.publish(name, "version: 1")
        ours.config.watch(name, heard.listen)
        await ours.naming.register(service, "10.7.3.1", 8000)
        await eventually(lambda: heard.all_ended_with("version: 1", 1))
        key = base64.b64encode(os.urandom(48)).decode()
        await asyncio.to_thread(
            lambda: nacos.restart(nacos__core__auth__plugin__nacos__token__secret__key=key)
        )

        async def back() -> bool:
            return await listed(ours, service) == 1

        await eventually(back, 30)
        await ours.admin.publish(name, "version: 2")
        await eventually(lambda: heard.all_ended_with("version: 2", 1))
        assert Counter(heard.contents[name]) == {"version: 1": 1, "version: 2": 1}
        await ours.admin.delete(name)


async def test_a_blocked_event_loop_loses_no_instance(nacos: OwnServers) -> None:
    service = f"block-{uuid.uuid4().hex}"
    labels = {
        "preserved.heart.beat.interval": "1000",
        "preserved.heart.beat.timeout": "3000",
        "preserved.ip.delete.timeout": "6000",
    }
    async with client(nacos) as ours:
        await ours.naming.register(service, "10.7.4.1", 8000, metadata=labels)
        time.sleep(20)  # noqa: ASYNC251 - user code that blocks is what this is about
        (instance,) = await ours.naming.instances(service)
        assert instance.healthy
        assert ours.naming.beat_status.reregistered == 0


async def test_a_normal_stop_takes_the_instances_out_within_two_seconds(
    nacos: OwnServers,
) -> None:
    service = f"stop-{uuid.uuid4().hex}"
    environment = nacos.environment()
    async with client(nacos) as observer:
        with NacosClient(
            environment["NACOS_SERVER_ADDR"],
            username=environment["NACOS_USERNAME"],
            password=environment["NACOS_PASSWORD"],
            group=GROUP,
        ) as ours:
            for number in range(INSTANCES):
                ours.naming.register(service, f"10.7.5.{number}", 8000)
            began = time.monotonic()
        assert time.monotonic() - began < 2.5

        async def gone() -> bool:
            return await listed(observer, service) == 0

        await eventually(gone, 2)


async def readable_on(address: str, environment: dict[str, str], name: str) -> None:
    """Wait until this node of the cluster shows the document."""
    async with AsyncNacosClient(
        address,
        username=environment["NACOS_CLUSTER_USERNAME"],
        password=environment["NACOS_CLUSTER_PASSWORD"],
        snapshot_dir="",
    ) as node:

        async def there() -> bool:
            try:
                return bool((await node.config.get(name)).content)
            except ConfigNotFound:
                return False

        await eventually(there, 20)


async def test_with_one_of_three_servers_down_reads_beats_and_watches_go_on(
    nacos_cluster: OwnServers,
) -> None:
    environment = nacos_cluster.environment()
    addresses = environment["NACOS_CLUSTER_ADDRS"]
    service, name = f"cluster-{uuid.uuid4().hex}", f"cluster-{uuid.uuid4().hex}.yaml"
    heard: list[str] = []
    async with AsyncNacosClient(
        addresses,
        username=environment["NACOS_CLUSTER_USERNAME"],
        password=environment["NACOS_CLUSTER_PASSWORD"],
        config_poll_seconds=1,
        instance_poll_seconds=1,
    ) as nacos:
        await nacos.admin.publish(name, "version: 1")
        nacos.config.watch(name, lambda config: heard.append(config.content))
        await nacos.naming.register(service, "10.7.9.1", 8000)
        await eventually(lambda: heard == ["version: 1"], 20)
        # A node shows a document some time after the one that took it: first all have it.
        for address in addresses.split(","):
            await readable_on(address.strip(), environment, name)

        in_use = nacos.server_in_use
        position = [part.strip() for part in addresses.split(",")].index(in_use) + 1
        await asyncio.to_thread(lambda: nacos_cluster.kill(f":{position}"))
        began = time.monotonic()
        assert (await nacos.config.get(name)).source == "server"
        assert time.monotonic() - began < 6
        assert nacos.server_in_use != in_use

        async def registered() -> bool:
            try:
                found = await nacos.naming.instances(service, healthy_only=True)
            except NacosError:
                return False
            return len(found) == 1 and not found.stale

        await eventually(registered, 20)

        async def published() -> bool:
            try:
                await nacos.admin.publish(name, "version: 2")
            except NacosError:  # the cluster elects a leader for some seconds
                await asyncio.sleep(0.5)
                return False
            return True

        await eventually(published, 40)
        await eventually(lambda: heard[-1] == "version: 2", 20)
        assert heard == ["version: 1", "version: 2"]
        await nacos.admin.delete(name)
        await asyncio.to_thread(nacos_cluster.up)
