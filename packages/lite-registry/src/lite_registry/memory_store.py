"""The default store: leases in this process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from .instance import Instance, ServiceKey
from .leases import ANY_STATE, Lease, LeaseTable, Precondition

__all__ = ("MemoryStore",)


class MemoryStore:
    """Leases in memory, expired on time while `run` runs."""

    def __init__(
        self, *, capacity: int = 50_000, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._table = LeaseTable(capacity=capacity, clock=clock, on_change=self._changed)
        self._listener: Callable[[ServiceKey], None] = lambda _: None

    def _changed(self, key: ServiceKey) -> None:
        self._listener(key)

    def listen(self, listener: Callable[[ServiceKey], None]) -> None:
        """Tell `listener` of each service whose instances change."""
        self._listener = listener

    def services(self) -> list[ServiceKey]:
        """Every service that has an instance, sorted."""
        return self._table.services()

    def instances(self, key: ServiceKey) -> list[Instance]:
        """The service's instances, sorted by id."""
        return self._table.instances(key)

    def find(self, key: ServiceKey, instance_id: str) -> Instance | None:
        """The registration of that instance."""
        lease = self._table.find(key, instance_id)
        return lease.instance if lease else None

    def __len__(self) -> int:
        return len(self._table)

    async def put(
        self, key: ServiceKey, instance: Instance, precondition: Precondition = ANY_STATE
    ) -> bool:
        """See `LeaseTable.put`."""
        return self._table.put(key, instance, precondition)

    async def renew(self, key: ServiceKey, instance_id: str) -> Lease:
        """See `LeaseTable.renew`."""
        return self._table.renew(key, instance_id)

    async def remove(
        self, key: ServiceKey, instance_id: str, precondition: Precondition = ANY_STATE
    ) -> bool:
        """See `LeaseTable.remove`."""
        return self._table.remove(key, instance_id, precondition)

    async def run(self) -> None:
        """Expire leases until cancelled."""
        while True:
            self._table.expire()
            await asyncio.sleep(0.1)
