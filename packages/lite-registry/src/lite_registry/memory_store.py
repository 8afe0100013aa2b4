"""The default store: leases in this process."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable
from typing import cast

from .errors import Problem
from .instance import Instance, ServiceKey, parse_instance, validate_name
from .leases import ANY_STATE, LeaseTable, Precondition
from .metrics import Metrics
from .response import encode_json
from .self_preservation import SelfPreservation

__all__ = ("MemoryStore",)

logger = logging.getLogger(__name__)

_EXPIRE_INTERVAL_SECONDS = 0.1


class MemoryStore:
    """A `LeaseStore` in memory; leases expire while `run` runs."""

    def __init__(
        self,
        *,
        capacity: int = 50_000,
        preservation: SelfPreservation | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._table = LeaseTable(
            capacity=capacity,
            preservation=preservation,
            clock=clock,
            on_change=self._notify_listener,
        )
        self._listener: Callable[[ServiceKey], None] = lambda _: None
        self.epoch = secrets.token_hex(8)

    reachable = True

    @property
    def preserving(self) -> bool:
        """Whether lapsed leases are kept, because too many lapsed at once."""
        return self._table.preserving

    def _notify_listener(self, key: ServiceKey) -> None:
        self._listener(key)

    def start(self, listener: Callable[[ServiceKey], None], metrics: Metrics) -> None:
        """Call the listener with the key of each service whose instances change."""
        self._listener = listener
        metrics.add_gauge("leases_lapsed", lambda: [({}, self._table.lapsed)])

    def list_services(self) -> list[ServiceKey]:
        """Every service that has an instance, sorted."""
        return self._table.list_services()

    def list_instances(self, key: ServiceKey) -> list[Instance]:
        """The service's instances, sorted by id."""
        return self._table.list_instances(key)

    def find(self, key: ServiceKey, instance_id: str) -> Instance | None:
        """The registration of that instance; None when there is none."""
        lease = self._table.find(key, instance_id)
        return lease.instance if lease else None

    def list_overdue(self, key: ServiceKey) -> frozenset[str]:
        """See `LeaseTable.list_overdue`."""
        return self._table.list_overdue(key)

    def list_unconfirmed(self, key: ServiceKey) -> frozenset[str]:
        """See `LeaseTable.list_unconfirmed`."""
        return self._table.list_unconfirmed(key)

    def __len__(self) -> int:
        return len(self._table)

    async def put(
        self, key: ServiceKey, instance: Instance, precondition: Precondition = ANY_STATE
    ) -> bool:
        """See `LeaseTable.put`."""
        return self._table.put(key, instance, precondition)

    async def renew(self, key: ServiceKey, instance_id: str) -> Instance:
        """See `LeaseTable.renew`."""
        return self._table.renew(key, instance_id).instance

    async def remove(
        self, key: ServiceKey, instance_id: str, precondition: Precondition = ANY_STATE
    ) -> bool:
        """See `LeaseTable.remove`."""
        return self._table.remove(key, instance_id, precondition)

    async def run(self) -> None:
        """Expire leases until cancelled."""
        while True:
            self._table.expire()
            await asyncio.sleep(_EXPIRE_INTERVAL_SECONDS)

    def dump(self) -> dict[str, object]:
        """Everything in the store, for a snapshot."""
        return {
            "epoch": self.epoch,
            "instances": [
                {"service": list(key), "instance": instance.to_document()}
                for key in self.list_services()
                for instance in self.list_instances(key)
            ],
        }

    def restore(self, content: dict[str, object]) -> None:
        """Load what `dump` returned, each lease as if it was renewed just now."""
        self.epoch = str(content["epoch"])
        for entry in cast("list[dict[str, object]]", content["instances"]):
            document = cast("dict[str, object]", entry["instance"])
            key = ServiceKey(*cast("list[str]", entry["service"]))
            try:
                validate_name("service", key.name)
                instance = parse_instance(str(document["id"]), encode_json(document))
                self._table.restore(key, instance)
            except Problem as problem:
                logger.warning("an instance of the snapshot is not restored: %s", problem)
