"""The contract of every service registry, as tests for each provider and each fake."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol
from uuid import uuid4

import pytest

from microservice_core.errors import InstanceNotFoundError
from microservice_core.registry import (
    InstanceQuery,
    RegistrationHandover,
    ServiceInstance,
    ServiceRegistry,
)

from .waiting import Recorder, eventually

__all__ = ("RegistrationHandoverContract", "ServiceRegistryContract")

Instances = Sequence[ServiceInstance]


def addresses(instances: Instances) -> list[str]:
    """The addresses, sorted, because a registry promises no order."""
    return sorted(instance.address for instance in instances)


class ServiceRegistryContract:
    """Subclass it, name the subclass `Test...` and give it an async fixture `registry`.

    Attributes:
        patience_seconds: how long the provider may take to show a change.
    """

    patience_seconds = 10.0

    @pytest.fixture
    def service_name(self) -> str:
        """The name of a service that no other test uses."""
        return f"contract-{uuid4().hex[:12]}"

    def make_instance(self, service_name: str, port: int = 8001, **fields: Any) -> ServiceInstance:
        """An instance on the loopback address; override it to add what the provider needs."""
        return replace(ServiceInstance(service_name, "127.0.0.1", port), **fields)

    async def wait_until_listed(
        self,
        registry: ServiceRegistry,
        service_name: str,
        expected: list[str],
        query: InstanceQuery | None = None,
    ) -> Instances:
        """Wait until exactly these addresses are listed, and return their instances."""
        return await eventually(
            lambda: registry.get_instances(service_name, query or InstanceQuery()),
            lambda instances: addresses(instances) == expected,
            within_seconds=self.patience_seconds,
        )

    async def test_an_unknown_service_has_no_instances(
        self, registry: ServiceRegistry, service_name: str
    ) -> None:
        assert list(await registry.get_instances(service_name)) == []

    async def test_a_registered_instance_is_listed_with_all_its_attributes(
        self, registry: ServiceRegistry, service_name: str
    ) -> None:
        metadata = {"version": "1.2", "lane": "dev"}
        await registry.register(self.make_instance(service_name, weight=2.5, metadata=metadata))
        (listed,) = await self.wait_until_listed(registry, service_name, ["127.0.0.1:8001"])
        assert listed.service_name == service_name
        assert (listed.ip, listed.port, listed.weight) == ("127.0.0.1", 8001, 2.5)
        assert (listed.healthy, listed.enabled, listed.ephemeral) == (True, True, True)
        assert (listed.version, listed.lane) == ("1.2", "dev")

    async def test_a_service_has_several_instances(
        self, registry: ServiceRegistry, service_name: str
    ) -> None:
        for port in (8001, 8002, 8003):
            await registry.register(self.make_instance(service_name, port))
        instances = await self.wait_until_listed(
            registry, service_name, ["127.0.0.1:8001", "127.0.0.1:8002", "127.0.0.1:8003"]
        )
        assert len({instance.instance_id for instance in instances}) == 3

    async def test_registering_again_replaces(
        self, registry: ServiceRegistry, service_name: str
    ) -> None:
        await registry.register(self.make_instance(service_name, metadata={"version": "1"}))
        await self.wait_until_listed(registry, service_name, ["127.0.0.1:8001"])
        await registry.register(self.make_instance(service_name, metadata={"version": "2"}))
        (listed,) = await eventually(
            lambda: registry.get_instances(service_name),
            lambda instances: [instance.version for instance in instances] == ["2"],
            within_seconds=self.patience_seconds,
        )
        assert listed.address == "127.0.0.1:8001"

    async def test_a_deregistered_instance_disappears_and_the_others_remain(
        self, registry: ServiceRegistry, service_name: str
    ) -> None:
        first = self.make_instance(service_name, 8001)
        second = self.make_instance(service_name, 8002)
        await registry.register(first)
        await registry.register(second)
        await self.wait_until_listed(registry, service_name, ["127.0.0.1:8001", "127.0.0.1:8002"])
        await registry.deregister(first)
        (listed,) = await self.wait_until_listed(registry, service_name, ["127.0.0.1:8002"])
        assert listed.port == 8002

    async def test_deregistering_twice_is_no_error(
        self, registry: ServiceRegistry, service_name: str
    ) -> None:
        instance = self.make_instance(service_name)
        await registry.register(instance)
        await registry.deregister(instance)
        await registry.deregister(instance)
        assert not await self.wait_until_listed(registry, service_name, [])

    async def test_a_registered_instance_can_be_renewed(
        self, registry: ServiceRegistry, service_name: str
    ) -> None:
        instance = self.make_instance(service_name)
        await registry.register(instance)
        await registry.renew(instance)
        (listed,) = await self.wait_until_listed(registry, service_name, ["127.0.0.1:8001"])
        assert listed.healthy

    async def test_renewing_an_unknown_instance_is_an_error_that_names_it(
        self, registry: ServiceRegistry, service_name: str
    ) -> None:
        with pytest.raises(InstanceNotFoundError) as caught:
            await registry.renew(self.make_instance(service_name))
        assert service_name in caught.value.target

    async def test_a_query_selects_by_metadata(
        self, registry: ServiceRegistry, service_name: str
    ) -> None:
        await registry.register(self.make_instance(service_name, 8001, metadata={"version": "1"}))
        await registry.register(self.make_instance(service_name, 8002, metadata={"version": "2"}))
        query = InstanceQuery(metadata={"version": "2"})
        (selected,) = await self.wait_until_listed(
            registry, service_name, ["127.0.0.1:8002"], query
        )
        assert selected.version == "2"

    async def test_a_watch_starts_with_the_present_instances(
        self, registry: ServiceRegistry, service_name: str
    ) -> None:
        await registry.register(self.make_instance(service_name))
        await self.wait_until_listed(registry, service_name, ["127.0.0.1:8001"])
        recorder: Recorder[Instances] = Recorder()
        unsubscribe = registry.watch_instances(service_name, recorder)
        (instance,) = await self.wait_for_count(recorder, 1)
        assert instance.address == "127.0.0.1:8001"
        unsubscribe()

    async def test_a_watch_of_a_service_without_instances_starts_empty(
        self, registry: ServiceRegistry, service_name: str
    ) -> None:
        recorder: Recorder[Instances] = Recorder()
        unsubscribe = registry.watch_instances(service_name, recorder)
        assert not await self.wait_for_count(recorder, 0)
        unsubscribe()

    async def test_a_watch_follows_registrations_and_deregistrations(
        self, registry: ServiceRegistry, service_name: str
    ) -> None:
        recorder: Recorder[Instances] = Recorder()
        unsubscribe = registry.watch_instances(service_name, recorder)
        instance = self.make_instance(service_name)
        await registry.register(instance)
        assert addresses(await self.wait_for_count(recorder, 1)) == [instance.address]
        await registry.deregister(instance)
        assert not await self.wait_for_count(recorder, 0)
        unsubscribe()

    async def test_a_listener_may_be_async(
        self, registry: ServiceRegistry, service_name: str
    ) -> None:
        recorder: Recorder[Instances] = Recorder()

        async def listener(instances: Instances) -> None:
            await asyncio.sleep(0)
            recorder(instances)

        unsubscribe = registry.watch_instances(service_name, listener)
        instance = self.make_instance(service_name)
        await registry.register(instance)
        assert addresses(await self.wait_for_count(recorder, 1)) == [instance.address]
        unsubscribe()

    async def test_a_listener_that_raises_is_called_again_and_does_not_stop_the_others(
        self, registry: ServiceRegistry, service_name: str
    ) -> None:
        counts: list[int] = []
        recorder: Recorder[Instances] = Recorder()

        def raising(instances: Instances) -> None:
            counts.append(len(instances))
            raise RuntimeError("this listener is broken on purpose")

        unsubscribes = [
            registry.watch_instances(service_name, raising),
            registry.watch_instances(service_name, recorder),
        ]
        await self.wait_for_count(recorder, 0)
        await registry.register(self.make_instance(service_name))
        await self.wait_for_count(recorder, 1)
        await eventually(
            lambda: asyncio.sleep(0, counts),
            lambda counts: counts[-1:] == [1],
            within_seconds=self.patience_seconds,
        )
        assert counts[0] == 0
        for unsubscribe in unsubscribes:
            unsubscribe()

    async def test_an_ended_watch_calls_no_listener_and_may_be_ended_twice(
        self, registry: ServiceRegistry, service_name: str
    ) -> None:
        recorder: Recorder[Instances] = Recorder()
        witness: Recorder[Instances] = Recorder()
        unsubscribe = registry.watch_instances(service_name, recorder)
        unsubscribe_witness = registry.watch_instances(service_name, witness)
        await self.wait_for_count(recorder, 0)
        unsubscribe()
        unsubscribe()
        calls = len(recorder.states)
        await registry.register(self.make_instance(service_name))
        await self.wait_for_count(witness, 1)
        assert len(recorder.states) == calls
        unsubscribe_witness()

    async def test_closing_ends_the_watches_and_may_be_done_twice(
        self, registry: ServiceRegistry, service_name: str
    ) -> None:
        recorder: Recorder[Instances] = Recorder()
        registry.watch_instances(service_name, recorder)
        await self.wait_for_count(recorder, 0)
        calls = len(recorder.states)
        await registry.close()
        await registry.close()
        assert len(recorder.states) == calls

    async def wait_for_count(self, recorder: Recorder[Instances], count: int) -> Instances:
        """Wait until the newest state of the listener has `count` instances, and return them."""
        return await recorder.wait_for(
            lambda instances: len(instances) == count, within_seconds=self.patience_seconds
        )


class HandoverRegistry(ServiceRegistry, RegistrationHandover, Protocol):
    """A registry with the ability to hand over registrations."""


class RegistrationHandoverContract(ServiceRegistryContract):
    """The contract of a registry that is a `RegistrationHandover` as well."""

    async def test_what_is_handed_over_remains_registered_until_it_is_deregistered(
        self, registry: HandoverRegistry, service_name: str
    ) -> None:
        instance = self.make_instance(service_name, metadata={"version": "1"})
        assert isinstance(registry, RegistrationHandover)
        await registry.hand_over(instance)
        await registry.register(instance)
        await registry.hand_over(instance)
        await registry.register(replace(instance, metadata={"version": "2"}))
        await registry.hand_over(instance)
        (listed,) = await self.wait_until_listed(registry, service_name, [instance.address])
        assert listed.version == "2"
        await registry.deregister(instance)
        await self.wait_until_listed(registry, service_name, [])
