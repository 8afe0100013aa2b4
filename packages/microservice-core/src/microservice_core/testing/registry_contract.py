"""What every service registry has to do; run against each provider and each fake."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol
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

Seen = Sequence[ServiceInstance]


def addresses(instances: Seen) -> list[str]:
    """The addresses, sorted: an order is not promised."""
    return sorted(instance.address for instance in instances)


class ServiceRegistryContract:
    """Subclass it, name the subclass `Test...` and give it an async fixture `registry`.

    Attributes:
        patience_seconds: how long the provider may take to show a change.
    """

    patience_seconds = 10.0

    @pytest.fixture
    def service_name(self) -> str:
        """A service nobody else uses."""
        return f"contract-{uuid4().hex[:12]}"

    def instance(self, service_name: str, port: int = 8001, **fields: object) -> ServiceInstance:
        """An instance on loopback; override to add what the provider needs."""
        return replace(ServiceInstance(service_name, "127.0.0.1", port), **fields)  # type: ignore[arg-type]

    async def listed(
        self,
        registry: ServiceRegistry,
        service_name: str,
        wanted: list[str],
        query: InstanceQuery | None = None,
    ) -> Seen:
        """Wait until exactly these addresses are listed."""
        return await eventually(
            lambda: registry.get_instances(service_name, query or InstanceQuery()),
            lambda seen: addresses(seen) == wanted,
            within_seconds=self.patience_seconds,
        )

    async def test_an_unknown_service_has_no_instances(
        self, registry: ServiceRegistry, service_name: str
    ) -> None:
        assert list(await registry.get_instances(service_name)) == []

    async def test_a_registered_instance_is_listed_with_everything_it_said(
        self, registry: ServiceRegistry, service_name: str
    ) -> None:
        told = self.instance(service_name, weight=2.5, metadata={"version": "1.2", "lane": "dev"})
        await registry.register(told)
        (seen,) = await self.listed(registry, service_name, ["127.0.0.1:8001"])
        assert seen.service_name == service_name
        assert (seen.ip, seen.port, seen.weight) == ("127.0.0.1", 8001, 2.5)
        assert (seen.healthy, seen.enabled, seen.ephemeral) == (True, True, True)
        assert (seen.version, seen.lane) == ("1.2", "dev")

    async def test_instances_of_one_service_stand_side_by_side(
        self, registry: ServiceRegistry, service_name: str
    ) -> None:
        for port in (8001, 8002, 8003):
            await registry.register(self.instance(service_name, port))
        seen = await self.listed(
            registry, service_name, ["127.0.0.1:8001", "127.0.0.1:8002", "127.0.0.1:8003"]
        )
        assert len({instance.instance_id for instance in seen}) == 3

    async def test_registering_again_replaces(
        self, registry: ServiceRegistry, service_name: str
    ) -> None:
        await registry.register(self.instance(service_name, metadata={"version": "1"}))
        await self.listed(registry, service_name, ["127.0.0.1:8001"])
        await registry.register(self.instance(service_name, metadata={"version": "2"}))
        (seen,) = await eventually(
            lambda: registry.get_instances(service_name),
            lambda all_seen: [one.version for one in all_seen] == ["2"],
            within_seconds=self.patience_seconds,
        )
        assert seen.address == "127.0.0.1:8001"

    async def test_a_deregistered_instance_is_gone_and_the_others_stay(
        self, registry: ServiceRegistry, service_name: str
    ) -> None:
        first, second = self.instance(service_name, 8001), self.instance(service_name, 8002)
        await registry.register(first)
        await registry.register(second)
        await self.listed(registry, service_name, ["127.0.0.1:8001", "127.0.0.1:8002"])
        await registry.deregister(first)
        await self.listed(registry, service_name, ["127.0.0.1:8002"])

    async def test_deregistering_twice_is_no_error(
        self, registry: ServiceRegistry, service_name: str
    ) -> None:
        instance = self.instance(service_name)
        await registry.register(instance)
        await registry.deregister(instance)
        await registry.deregister(instance)
        await self.listed(registry, service_name, [])

    async def test_renewing_a_registered_instance_succeeds(
        self, registry: ServiceRegistry, service_name: str
    ) -> None:
        instance = self.instance(service_name)
        await registry.register(instance)
        await registry.renew(instance)
        await self.listed(registry, service_name, ["127.0.0.1:8001"])

    async def test_renewing_an_unknown_instance_says_so(
        self, registry: ServiceRegistry, service_name: str
    ) -> None:
        with pytest.raises(InstanceNotFoundError) as caught:
            await registry.renew(self.instance(service_name))
        assert service_name in caught.value.target

    async def test_a_query_by_metadata_narrows(
        self, registry: ServiceRegistry, service_name: str
    ) -> None:
        await registry.register(self.instance(service_name, 8001, metadata={"version": "1"}))
        await registry.register(self.instance(service_name, 8002, metadata={"version": "2"}))
        query = InstanceQuery(metadata={"version": "2"})
        await self.listed(registry, service_name, ["127.0.0.1:8002"], query)

    async def test_a_watch_tells_the_present_state_first(
        self, registry: ServiceRegistry, service_name: str
    ) -> None:
        await registry.register(self.instance(service_name))
        await self.listed(registry, service_name, ["127.0.0.1:8001"])
        recorder: Recorder[Seen] = Recorder()
        stop = registry.watch_instances(service_name, recorder)
        await recorder.wait_for(
            lambda seen: addresses(seen) == ["127.0.0.1:8001"],
            within_seconds=self.patience_seconds,
        )
        stop()

    async def test_a_watch_of_an_empty_service_tells_that_it_is_empty(
        self, registry: ServiceRegistry, service_name: str
    ) -> None:
        recorder: Recorder[Seen] = Recorder()
        stop = registry.watch_instances(service_name, recorder)
        await recorder.wait_for(lambda seen: not seen, within_seconds=self.patience_seconds)
        stop()

    async def test_a_watch_follows_arrivals_and_departures(
        self, registry: ServiceRegistry, service_name: str
    ) -> None:
        recorder: Recorder[Seen] = Recorder()
        stop = registry.watch_instances(service_name, recorder)
        instance = self.instance(service_name)
        await registry.register(instance)
        await recorder.wait_for(lambda seen: len(seen) == 1, within_seconds=self.patience_seconds)
        await registry.deregister(instance)
        await recorder.wait_for(lambda seen: not seen, within_seconds=self.patience_seconds)
        stop()

    async def test_an_async_listener_works_like_a_plain_one(
        self, registry: ServiceRegistry, service_name: str
    ) -> None:
        recorder: Recorder[Seen] = Recorder()

        async def listener(seen: Seen) -> None:
            await asyncio.sleep(0)
            recorder(seen)

        stop = registry.watch_instances(service_name, listener)
        await registry.register(self.instance(service_name))
        await recorder.wait_for(lambda seen: len(seen) == 1, within_seconds=self.patience_seconds)
        stop()

    async def test_a_listener_that_raises_stops_neither_itself_nor_the_others(
        self, registry: ServiceRegistry, service_name: str
    ) -> None:
        calls: list[int] = []
        recorder: Recorder[Seen] = Recorder()

        def raising(seen: Seen) -> None:
            calls.append(len(seen))
            raise RuntimeError("this listener is broken on purpose")

        stops = [
            registry.watch_instances(service_name, raising),
            registry.watch_instances(service_name, recorder),
        ]
        await recorder.wait_for(lambda seen: not seen, within_seconds=self.patience_seconds)
        await registry.register(self.instance(service_name))
        await recorder.wait_for(lambda seen: len(seen) == 1, within_seconds=self.patience_seconds)
        await eventually(
            lambda: asyncio.sleep(0, calls),
            lambda seen: seen[-1:] == [1],
            within_seconds=self.patience_seconds,
        )
        for stop in stops:
            stop()

    async def test_an_ended_watch_is_silent_and_ending_it_twice_is_fine(
        self, registry: ServiceRegistry, service_name: str
    ) -> None:
        ended: Recorder[Seen] = Recorder()
        witness: Recorder[Seen] = Recorder()
        stop = registry.watch_instances(service_name, ended)
        stop_witness = registry.watch_instances(service_name, witness)
        await ended.wait_for(lambda seen: not seen, within_seconds=self.patience_seconds)
        stop()
        stop()
        told = len(ended.states)
        await registry.register(self.instance(service_name))
        await witness.wait_for(lambda seen: len(seen) == 1, within_seconds=self.patience_seconds)
        assert len(ended.states) == told
        stop_witness()

    async def test_closing_twice_is_fine(self, registry: ServiceRegistry) -> None:
        await registry.close()
        await registry.close()


class HandingOver(ServiceRegistry, RegistrationHandover, Protocol):
    """A registry with that ability."""


class RegistrationHandoverContract(ServiceRegistryContract):
    """The same, for a registry that is a `RegistrationHandover` as well."""

    async def test_what_is_handed_over_stays_until_somebody_takes_it_out(
        self, registry: HandingOver, service_name: str
    ) -> None:
        ours = self.instance(service_name, metadata={"version": "1"})
        assert isinstance(registry, RegistrationHandover)
        await registry.hand_over(ours)
        await registry.register(ours)
        await registry.hand_over(ours)
        await registry.register(replace(ours, metadata={"version": "2"}))
        await registry.hand_over(ours)
        (seen,) = await self.listed(registry, service_name, [ours.address])
        assert seen.version == "2"
        await registry.deregister(ours)
        await self.listed(registry, service_name, [])
