"""No leases at all: for replicas that only serve routes and have nothing to agree on."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NoReturn

from .errors import Problem
from .leases import ANY_STATE, Precondition

if TYPE_CHECKING:
    from collections.abc import Callable

    from .instance import Instance, ServiceKey
    from .metrics import Metrics

__all__ = ("NoStore",)


class NoStore:
    """Knows no instance and takes none."""

    epoch = "none"
    preserving = False

    def start(self, listener: Callable[[ServiceKey], None], metrics: Metrics) -> None:
        """Nothing will ever change."""

    def services(self) -> list[ServiceKey]:
        """None."""
        return []

    def instances(self, key: ServiceKey) -> list[Instance]:
        """None."""
        return []

    def find(self, key: ServiceKey, instance_id: str) -> Instance | None:
        """None."""
        return None

    def __len__(self) -> int:
        return 0

    async def put(
        self,
        key: ServiceKey,
        instance: Instance,
        precondition: Precondition = ANY_STATE,
    ) -> bool:
        """Refused with 501."""
        _refuse()

    async def renew(self, key: ServiceKey, instance_id: str) -> Instance:
        """Refused with 501."""
        _refuse()

    async def remove(
        self,
        key: ServiceKey,
        instance_id: str,
        precondition: Precondition = ANY_STATE,
    ) -> bool:
        """Refused with 501."""
        _refuse()

    async def run(self) -> None:
        """Do nothing until cancelled."""
        await asyncio.Event().wait()


def _refuse() -> NoReturn:
    raise Problem(501, "Leases are off", "start the server with --store memory or redis://host")
