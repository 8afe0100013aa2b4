"""Subsetting: each client uses a part of a large fleet, and all clients together use it evenly."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from microservice_core import InvalidValueError

from .balancer import Balancer
from .node import E
from .stage import NarrowingStage, WeightedEndpoints

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ("Subset",)


class Subset(NarrowingStage[E]):
    """Deterministic aperture: clients and endpoints share a circle, and a client uses one arc.

    The arcs of all clients cover the circle evenly; an endpoint at the edge of an arc is weighted
    by the part of it inside. Connections fall from clients x endpoints to clients x `size`.

    Source: Finagle's deterministic aperture.

    Args:
        client: this client's number, from 0.
        clients: number of clients.
        size: endpoints to use at least; with fewer than 12, two random choices balance poorly.

    Raises:
        InvalidValueError: `client` is not below `clients`, or `size` not at least 1.
    """

    __slots__ = ("client", "clients", "size")

    def __init__(self, inner: Balancer[E], *, client: int, clients: int, size: int = 12) -> None:
        super().__init__(inner)
        if clients < 1:
            raise InvalidValueError("clients", clients, "at least 1")
        if not 0 <= client < clients:
            raise InvalidValueError("client", client, f"from 0 to {clients - 1}")
        if size < 1:
            raise InvalidValueError("size", size, "at least 1")
        self.client = client
        self.clients = clients
        self.size = size

    def _narrow(self, listed: WeightedEndpoints[E]) -> WeightedEndpoints[E]:
        ordered = sorted(listed, key=lambda pair: _circle_position(pair[0].instance_id))
        shares = zip(ordered, self._arc_shares(len(listed)), strict=True)
        return [(endpoint, weight * share) for (endpoint, weight), share in shares if share > 0]

    def _arc_shares(self, count: int) -> Iterator[float]:
        """Yield the share of each endpoint that lies in this client's arc, from 0 to 1.

        The circle has count x clients steps: an endpoint takes `clients` of them, and an arc a
        multiple of `count`, so that the same number of arcs covers every step.
        """
        circle = count * self.clients
        arcs = min(self.clients, -(-self.size * self.clients // max(1, count)))
        begin, length = self.client * count, arcs * count
        for place in range(count):
            start = (place * self.clients - begin) % circle
            inside = max(0, min(length, start + self.clients) - start)
            # An endpoint may begin before the arc and reach into it across the circle's origin.
            around = min(length, max(0, start + self.clients - circle))
            yield (inside + around) / self.clients

    def _describe(self) -> str:
        return f"Subset(client={self.client}, clients={self.clients}, size={self.size})"


def _circle_position(instance_id: str) -> bytes:
    # Hashed, or neighbours on the circle would often be neighbours in the same rack.
    return hashlib.md5(instance_id.encode(), usedforsecurity=False).digest()
