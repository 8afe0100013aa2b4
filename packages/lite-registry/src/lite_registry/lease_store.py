"""What the server needs of a store of leases; implemented in memory, on Redis, and by nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from .instance import Instance, ServiceKey
from .leases import ANY_STATE, Precondition
from .metrics import Metrics

__all__ = ("LeaseStore",)


class LeaseStore(Protocol):
    """Where leased instances are kept: reads come from memory, writes may wait."""

    epoch: str
    """Changes when everything registered so far may be lost."""

    @property
    def reachable(self) -> bool:
        """Whether leases can be written now, as far as it is known."""
        ...

    @property
    def preserving(self) -> bool:
        """Whether lapsed leases are kept, because too many lapsed at once."""
        ...

    def start(self, listener: Callable[[ServiceKey], None], metrics: Metrics) -> None:
        """Call the listener with the key of each service whose instances change, from now on."""
        ...

    def list_services(self) -> list[ServiceKey]:
        """Every service that has an instance, sorted."""
        ...

    def list_instances(self, key: ServiceKey) -> list[Instance]:
        """The service's instances, sorted by id."""
        ...

    def find(self, key: ServiceKey, instance_id: str) -> Instance | None:
        """The registration of that instance; None when there is none."""
        ...

    def list_overdue(self, key: ServiceKey) -> frozenset[str]:
        """The ids of the service's instances whose lease has lapsed and is kept."""
        ...

    def list_unconfirmed(self, key: ServiceKey) -> frozenset[str]:
        """The ids of the service's instances that were restored and have not renewed since."""
        ...

    def __len__(self) -> int:
        """The number of instances."""
        ...

    async def put(
        self, key: ServiceKey, instance: Instance, precondition: Precondition = ANY_STATE
    ) -> bool:
        """Register the instance, or renew it with a full document; returns whether it is new.

        Raises:
            Problem: 412 when the precondition fails, 507 when the store is full.
        """
        ...

    async def renew(self, key: ServiceKey, instance_id: str) -> Instance:
        """Restart the time of the lease.

        Raises:
            Problem: 404 when there is no such lease, or no longer.
        """
        ...

    async def remove(
        self, key: ServiceKey, instance_id: str, precondition: Precondition = ANY_STATE
    ) -> bool:
        """Remove the instance; returns whether it existed.

        Raises:
            Problem: 412 when the precondition fails.
        """
        ...

    async def run(self) -> None:
        """Expire leases, until cancelled."""
        ...
