"""One of three real Nacos servers is killed; the client goes on with the other two."""

import asyncio
import time
import uuid
from typing import TYPE_CHECKING

import pytest

from nacos_client import AsyncNacosClient, NacosError
from nacos_client.testing.contract import eventually

if TYPE_CHECKING:
    from conftest import OwnServers

pytestmark = pytest.mark.timeout(400)


async def test_with_one_of_three_servers_down_reads_beats_and_watches_go_on(
    nacos_cluster: "OwnServers",
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
