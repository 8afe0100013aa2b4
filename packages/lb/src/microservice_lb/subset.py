"""Subsetting: each client talks to a part of a large fleet, and all clients together evenly."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from microservice_core import InvalidValueError

from .balancer import Balancer, E
from .stage import Listed, NarrowingStage

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ("Subset",)


class Subset(NarrowingStage[E]):
    """Deterministic aperture: clients and endpoints lie on one circle, a client sees an arc of it.

    The arcs of all clients cover the circle evenly; an endpoint at the edge of an arc counts with
    the part of it that lies inside. Connections fall from clients x endpoints to clients x `size`.

    Source: Finagle's deterministic aperture.

    Args:
        client: this client's number, from 0.
        clients: how many there are.
        size: endpoints wanted at least; below 12 two choices lose their meaning.

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

    def _narrow(self, given: Listed[E]) -> Listed[E]:
        ordered = sorted(given, key=lambda one: _place(one[0].instance_id))
        parts = zip(ordered, self._parts(len(given)), strict=True)
        return [(endpoint, weight * part) for (endpoint, weight), part in parts if part > 0]

    def _parts(self, count: int) -> Iterator[float]:
        """How much of each endpoint lies in this client's arc.

        The circle has count x clients steps: an endpoint takes `clients` of them, and an arc a
        multiple of `count`, so that as many arcs cover every step.
        """
        circle = count * self.clients
        arcs = min(self.clients, -(-self.size * self.clients // max(1, count)))
        begin, length = self.client * count, arcs * count
        for place in range(count):
            start = (place * self.clients - begin) % circle
            inside = max(0, min(length, start + self.clients) - start)
            # An endpoint may begin before the arc does and reach into it over the seam.
            around = min(length, max(0, start + self.clients - circle))
            yield (inside + around) / self.clients

    def _what(self) -> str:
        return f"Subset(client={self.client}, clients={self.clients}, size={self.size})"


def _place(instance_id: str) -> bytes:
    # By hash, or neighbours on the circle would be neighbours in the rack.
    return hashlib.md5(instance_id.encode(), usedforsecurity=False).digest()
