"""Node: an endpoint together with what its balancer has learned about it."""

from __future__ import annotations

from typing import Generic, TypeVar

from microservice_core import Endpoint

__all__ = ("E", "Node")

E = TypeVar("E", bound=Endpoint)


class Node(Generic[E]):
    """One endpoint inside a balancer; the same node is kept through every `update`.

    Attributes:
        endpoint: the object of the last `update`.
        weight: always above 0; a node that is drained keeps the weight it had, because calls that
            began before still compare it.
        active: leases not yet released.
    """

    __slots__ = ("__weakref__", "active", "endpoint", "weight")

    def __init__(self, endpoint: E) -> None:
        self.endpoint = endpoint
        self.weight = float(endpoint.weight) or 1.0
        self.active = 0
