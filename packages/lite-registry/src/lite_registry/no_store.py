"""A store without leases, for replicas that only serve routes and have nothing to agree on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NoReturn

from .errors import Problem
from .instance import Instance, ServiceKey
from .leases import ANY_STATE, Precondition
from .metrics import Metrics

__all__ = ("NoStore",)


class NoStore:
    """A `LeaseStore` that is always empty and refuses every write with 501."""

    epoch = "none"
    preserving = False
    reachable = True

    def start(self, listener: Callable[[ServiceKey], None], metrics: Metrics) -> None:
        """Do nothing: there will be no change."""

    def list_services(self) -> list[ServiceKey]:
        """An empty list."""
        return []

    def list_instances(self, key: ServiceKey) -> list[Instance]:
        """An empty list."""
        return []

    def find(self, key: ServiceKey, instance_id: str) -> Instance | None:
        """Always None."""
        return None

    def list_overdue(self, key: ServiceKey) -> frozenset[str]:
        """None of them."""
        return frozenset()

    def list_unconfirmed(self, key: ServiceKey) -> frozenset[str]:
        """None of them."""
        return frozenset()

    def __len__(self) -> int:
        return 0

    async def put(
        self,
        key: ServiceKey,
        instance: Instance,
        precondition: Precondition = ANY_STATE,
    ) -> bool:
        """Refuse the registration.

        Raises:
            Problem: always, 501.
        """
        _refuse()

    async def renew(self, key: ServiceKey, instance_id: str) -> Instance:
        """Refuse the renewal.

        Raises:
            Problem: always, 501.
        """
        _refuse()

    async def remove(
        self,
        key: ServiceKey,
        instance_id: str,
        precondition: Precondition = ANY_STATE,
    ) -> bool:
        """Refuse the deregistration.

        Raises:
            Problem: always, 501.
        """
        _refuse()

    async def run(self) -> None:
        """Do nothing until cancelled."""
        await asyncio.Event().wait()


def _refuse() -> NoReturn:
    raise Problem(501, "Leases are off", "start the server with --store memory or redis://host")
