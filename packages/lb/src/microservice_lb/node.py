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
        weight: above 0 while the node can be picked.
        active: leases not yet released.
    """

    __slots__ = ("__weakref__", "active", "endpoint", "weight")

    def __init__(self, endpoint: E) -> None:
        self.endpoint = endpoint
        self.weight = float(endpoint.weight)
        self.active = 0
