"""Listing, picking, updating and subscribing to instances."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import httpx
import pytest

from nacos_client import (
    AsyncNacosClient,
    Instance,
    InstanceList,
    InstanceNotFound,
    InvalidArgumentError,
    NacosClient,
    NoInstanceError,
    Registration,
    ServerUnavailableError,
    WatchStatus,
)
from nacos_client._naming import PersistentRegistrations
from nacos_client.testing import FakeNacosServer
from nacos_client.testing.contract import wait_until


@pytest.fixture
async def nacos(server: FakeNacosServer) -> AsyncIterator[AsyncNacosClient]:
    async with AsyncNacosClient(
        server.address,
        username="nacos",
        password="nacos",
        instance_poll_seconds=0.05,
        server_rest_seconds=0.01,
        timeout_seconds=1,
        empty_hold_seconds=0.3,
    ) as client:
        yield client


async def test_filters_keep_what_is_usable_and_carries_the_labels(nacos: AsyncNacosClient) -> None:
    await nacos.naming.register("orders", "10.0.0.1", 80, metadata={"version": "1", "zone": "a"})
    await nacos.naming.register("orders", "10.0.0.2", 80, metadata={"version": "2"})
    await nacos.naming.register("orders", "10.0.0.3", 80, weight=0)

    async def ips(**options: Any) -> list[str]:
        return [each.ip for each in await nacos.naming.instances("orders", **options)]

    assert await ips() == ["10.0.0.1", "10.0.0.2", "10.0.0.3"]
    assert await ips(healthy_only=True) == ["10.0.0.1", "10.0.0.2"]
    assert await ips(metadata={"version": "1"}) == ["10.0.0.1"]
    assert await ips(metadata={"version": "3"}) == []
    assert await ips(group="other") == []


async def test_a_list_is_a_sequence(nacos: AsyncNacosClient) -> None:
    for number in range(3):
        await nacos.naming.register("orders", f"10.0.0.{number}", 80)
    found = await nacos.naming.instances("orders")
    assert len(found) == 3
    assert found[0] in found
    assert found[1:] == (found[1], found[2])
    assert found[0].address == "10.0.0.0:80"
    assert not found.stale


async def test_an_ipv6_address_is_written_in_brackets(nacos: AsyncNacosClient) -> None:
    await nacos.naming.register("orders", "fd00::1", 80)
    (instance,) = await nacos.naming.instances("orders")
    assert instance.address == "[fd00::1]:80"


async def test_an_update_changes_what_is_given_and_keeps_the_rest(nacos: AsyncNacosClient) -> None:
    await nacos.naming.register("orders", "10.0.0.1", 80, weight=2, metadata={"version": "1"})
    await nacos.naming.update("orders", "10.0.0.1", 80, weight=0)
    await nacos.naming.update("orders", "10.0.0.1", 80, metadata={"version": "2"})
    (instance,) = await nacos.naming.instances("orders")
    assert (instance.weight, dict(instance.metadata)) == (0, {"version": "2"})
    await nacos.naming.update("orders", "10.0.0.1", 80, enabled=False)
    assert list(await nacos.naming.instances("orders")) == []


async def test_an_update_of_what_was_not_registered_here_is_refused(
    nacos: AsyncNacosClient,
) -> None:
    with pytest.raises(InvalidArgumentError, match="one this client has registered"):
        await nacos.naming.update("orders", "10.0.0.1", 80, weight=1)


async def test_a_failed_re_registration_leaves_the_old_one_beating(
    nacos: AsyncNacosClient, server: FakeNacosServer
) -> None:
    await nacos.naming.register("orders", "10.0.0.1", 80)
    server.inject("forbidden", "/ns/instance")
    with pytest.raises(Exception, match="authorization failed"):
        await nacos.naming.register("orders", "10.0.0.1", 80, weight=5)
    assert nacos.naming.beat_status.instances == 1


async def test_registering_in_a_second_cluster_replaces_the_first(
    nacos: AsyncNacosClient,
) -> None:
    await nacos.naming.register("orders", "10.0.0.1", 80, cluster="east")
    await nacos.naming.register("orders", "10.0.0.1", 80, cluster="west")
    found = await nacos.naming.instances("orders", clusters=["east", "west"])
    assert [each.cluster for each in found] == ["west"]
    assert nacos.naming.beat_status.instances == 1


async def test_a_persistent_instance_does_not_beat_and_outlives_the_client(
    nacos: AsyncNacosClient, server: FakeNacosServer
) -> None:
    async with AsyncNacosClient(server.address, username="nacos", password="nacos") as other:
        await other.naming.register("orders", "10.0.0.1", 80, ephemeral=False)
        assert other.naming.beat_status.instances == 0
        with pytest.raises(InstanceNotFound):
            await other.naming.beat("orders", "10.0.0.1", 80)
    (instance,) = await nacos.naming.instances("orders")
    assert not instance.ephemeral
    await nacos.naming.deregister("orders", "10.0.0.1", 80)
    assert len(await nacos.naming.instances("orders")) == 1
    await nacos.naming.deregister("orders", "10.0.0.1", 80, ephemeral=False)
    assert len(await nacos.naming.instances("orders")) == 0


async def test_closing_takes_out_every_instance_of_every_namespace_group_and_cluster(
    nacos: AsyncNacosClient, server: FakeNacosServer
) -> None:
    async with AsyncNacosClient(server.address, username="nacos", password="nacos") as other:
        await other.naming.register(
            "orders", "10.0.0.1", 80, namespace="blue", group="G", cluster="east"
        )
        options: dict[str, Any] = {"namespace": "blue", "group": "G", "clusters": ["east"]}
        assert len(await nacos.naming.instances("orders", **options)) == 1
    assert len(await nacos.naming.instances("orders", **options)) == 0


async def test_an_outage_is_bridged_by_the_last_good_list_which_says_its_age(
    nacos: AsyncNacosClient, server: FakeNacosServer
) -> None:
    await nacos.naming.register("orders", "10.0.0.1", 80)
    fresh = await nacos.naming.instances("orders")
    server.stop()
    kept = await nacos.naming.instances("orders", healthy_only=True)
    assert list(kept) == list(fresh)
    assert kept.stale
    assert kept.age_seconds > 0
    with pytest.raises(ServerUnavailableError):
        await nacos.naming.instances("never-read")
    server.start()
    assert not (await nacos.naming.instances("orders")).stale


class TestPick:
    """One instance by weight."""

    async def test_weights_are_respected_and_weight_zero_is_never_picked(
        self, nacos: AsyncNacosClient
    ) -> None:
        for ip, weight in (("10.0.0.1", 1), ("10.0.0.2", 9), ("10.0.0.3", 0)):
            await nacos.naming.register("orders", ip, 80, weight=weight)
        lists: list[InstanceList] = []
        nacos.naming.subscribe("orders", lists.append)
        await wait_until(lambda: lists)
        picks = Counter([(await nacos.naming.pick("orders")).ip for _ in range(3000)])
        assert picks["10.0.0.3"] == 0
        assert 6 < picks["10.0.0.2"] / picks["10.0.0.1"] < 13.5
        assert (await nacos.naming.pick("orders")).ip in picks

    async def test_without_a_usable_instance_it_is_a_named_error(
        self, nacos: AsyncNacosClient
    ) -> None:
        with pytest.raises(NoInstanceError, match="none of 0 instances"):
            await nacos.naming.pick("orders")

    async def test_a_subscribed_service_is_picked_from_memory(
        self, nacos: AsyncNacosClient, server: FakeNacosServer
    ) -> None:
        await nacos.naming.register("orders", "10.0.0.1", 80)
        heard: list[InstanceList] = []
        nacos.naming.subscribe("orders", heard.append)
        await wait_until(lambda: heard)
        server.stop()
        assert (await nacos.naming.pick("orders")).ip == "10.0.0.1"


class TestSubscription:
    """Lists, differences, outages and empties."""

    async def test_an_outage_marks_the_list_stale_and_keeps_it(
        self, nacos: AsyncNacosClient, server: FakeNacosServer
    ) -> None:
        heard: list[InstanceList] = []
        async with AsyncNacosClient(server.address, username="nacos", password="nacos") as other:
            await other.naming.register("orders", "10.0.0.1", 80)
            nacos.naming.subscribe("orders", heard.append)
            await wait_until(lambda: heard and len(heard[-1]) == 1)
            server.stop()
            await wait_until(lambda: heard[-1].stale)
            assert nacos.naming.subscription_status == WatchStatus(watched=1, failing=1)
            server.start()
            await wait_until(lambda: not heard[-1].stale)
            healthy = WatchStatus(watched=1, failing=0)
            await wait_until(lambda: nacos.naming.subscription_status == healthy)
        assert [len(each) for each in heard[:3]] == [1, 1, 1]
        assert [each.added != () for each in heard[:3]] == [True, False, False]

    async def test_the_empty_list_of_a_restarted_server_does_not_count_at_once(
        self, nacos: AsyncNacosClient, server: FakeNacosServer
    ) -> None:
        heard: list[InstanceList] = []
        labels = {"preserved.heart.beat.interval": "200"}
        async with AsyncNacosClient(
            server.address, username="nacos", password="nacos", server_rest_seconds=0.01
        ) as other:
            await other.naming.register("orders", "10.0.0.1", 80, metadata=labels)
            nacos.naming.subscribe("orders", heard.append)
            await wait_until(lambda: heard and len(heard[-1]) == 1)
            server.stop()
            await wait_until(lambda: heard[-1].stale)
            server.restart()
            await wait_until(lambda: not heard[-1].stale)
            assert all(len(each) == 1 for each in heard)

    async def test_after_an_outage_an_empty_list_counts_in_the_end(
        self, nacos: AsyncNacosClient, server: FakeNacosServer
    ) -> None:
        heard: list[InstanceList] = []
        await nacos.naming.register("orders", "10.0.0.1", 80)
        nacos.naming.subscribe("orders", heard.append)
        await wait_until(lambda: heard and len(heard[-1]) == 1)
        await nacos.naming.deregister("orders", "10.0.0.1", 80)
        server.inject("error", "/instance/list", times=6)
        await wait_until(lambda: heard[-1].stale)
        await wait_until(lambda: len(heard[-1]) == 0)
        assert [each.ip for each in heard[-1].removed] == ["10.0.0.1"]

    async def test_a_single_empty_list_does_not_count(
        self, nacos: AsyncNacosClient, server: FakeNacosServer
    ) -> None:
        heard: list[InstanceList] = []
        await nacos.naming.register("orders", "10.0.0.1", 80)
        stop = nacos.naming.subscribe("orders", heard.append)
        await wait_until(lambda: heard)
        polls = count_lists(server)
        await nacos.naming.deregister("orders", "10.0.0.1", 80)
        await wait_until(lambda: count_lists(server) > polls + 1)
        await nacos.naming.register("orders", "10.0.0.1", 80)
        polls = count_lists(server)
        await wait_until(lambda: count_lists(server) > polls + 3)
        assert all(len(each) == 1 for each in heard)
        stop()
        stop()

    async def test_an_async_listener_may_use_the_client(self, nacos: AsyncNacosClient) -> None:
        counts: list[int] = []

        async def listener(instances: InstanceList) -> None:
            listing = await nacos.naming.instances(instances.service)
            counts.append(len(listing))

        await nacos.naming.register("orders", "10.0.0.1", 80)
        nacos.naming.subscribe("orders", listener)
        await wait_until(lambda: counts == [1])

    def test_a_sync_listener_may_use_the_client(self, server: FakeNacosServer) -> None:
        counts: list[int] = []
        with NacosClient(server.address, username="nacos", password="nacos") as nacos:
            nacos.naming.register("orders", "10.0.0.1", 80)
            nacos.naming.subscribe(
                "orders", lambda found: counts.append(len(nacos.naming.instances(found.service)))
            )
            asyncio.run(wait_until(lambda: counts == [1]))


def count_lists(server: FakeNacosServer) -> int:
    return server.requests.count(("GET", "/v3/client/ns/instance/list"))


async def test_a_persistent_instance_of_this_client_is_deregistered_as_what_it_is(
    nacos: AsyncNacosClient, server: FakeNacosServer
) -> None:
    await nacos.naming.register("orders", "10.0.0.1", 80, ephemeral=False, cluster="east")
    await nacos.naming.deregister("orders", "10.0.0.1", 80)
    assert list(await nacos.naming.instances("orders")) == []
    with NacosClient(server.address, username="nacos", password="nacos") as other:
        other.naming.register("orders", "10.0.0.2", 80, ephemeral=False)
        await nacos.naming.deregister("orders", "10.0.0.2", 80)  # of whom this client knows nothing
        assert [each.ip for each in other.naming.instances("orders")] == ["10.0.0.2"]


async def test_a_persistent_instance_of_this_client_can_be_updated(nacos: AsyncNacosClient) -> None:
    await nacos.naming.register("orders", "10.0.0.1", 80, ephemeral=False, metadata={"zone": "a"})
    updated = await nacos.naming.update("orders", "10.0.0.1", 80, weight=7)
    assert (updated.weight, updated.ephemeral) == (7.0, False)
    (instance,) = await nacos.naming.instances("orders")
    assert (instance.weight, instance.ephemeral, instance.metadata) == (7.0, False, {"zone": "a"})
    assert nacos.naming.beat_status.instances == 0
    await nacos.naming.deregister("orders", "10.0.0.1", 80)
    with pytest.raises(InvalidArgumentError, match="one this client has registered"):
        await nacos.naming.update("orders", "10.0.0.1", 80, weight=2)


async def test_only_the_newest_ten_thousand_persistent_instances_are_remembered() -> None:
    kept = PersistentRegistrations()
    all_of_them = [Registration("orders", "10.0.0.1", n, ephemeral=False) for n in range(10_001)]
    for registration in all_of_them:
        kept.record(registration)
    assert kept.find(all_of_them[0]) is None
    assert kept.find(all_of_them[1]) is all_of_them[1]
    kept.record(replace(all_of_them[1], ephemeral=True))
    assert kept.find(all_of_them[1]) is None


async def test_the_brackets_of_an_ipv6_address_are_no_part_of_it(
    nacos: AsyncNacosClient, server: FakeNacosServer
) -> None:
    async with httpx.AsyncClient(base_url=f"http://{server.address}/nacos") as http:
        credentials = {"username": "nacos", "password": "nacos"}
        token = (await http.post("/v3/auth/user/login", data=credentials)).json()["accessToken"]
        # As Spring Cloud Alibaba registers.
        form = {"serviceName": "orders", "ip": "[::1]", "port": 80}
        headers = {"Authorization": f"Bearer {token}"}
        await http.post("/v3/client/ns/instance", data=form, headers=headers)
    (theirs,) = await nacos.naming.instances("orders")
    assert (theirs.ip, theirs.address) == ("::1", "[::1]:80")
    await nacos.naming.deregister("orders", "[::1]", 80)
    assert list(await nacos.naming.instances("orders")) == []
    await nacos.naming.register("orders", "[fe80::7]", 80)
    (ours,) = await nacos.naming.instances("orders")
    assert (ours.ip, ours.address) == ("fe80::7", "[fe80::7]:80")
    await nacos.naming.deregister("orders", "[fe80::7]", 80)
    assert list(await nacos.naming.instances("orders")) == []
    assert Instance("orders", "[::1]", 80).address == "[::1]:80"
