"""InstanceSource: what discovery needs of a service registry."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from microservice_core import (
    InstanceQuery,
    InstancesListener,
    ServiceInstance,
    Unsubscribe,
)

__all__ = ("InstanceSource",)


@runtime_checkable
class InstanceSource(Protocol):
    """The part of a service registry that discovery needs; every `ServiceRegistry` has it."""

    async def get_instances(
        self, service_name: str, query: InstanceQuery = ..., /
    ) -> Sequence[ServiceInstance]:
        """Return the present instances of the service."""
        ...

    def watch_instances(
        self, service_name: str, listener: InstancesListener, query: InstanceQuery = ..., /
    ) -> Unsubscribe:
        """Call the listener with the instances of the service after every change."""
        ...
