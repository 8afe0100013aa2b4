"""What every balancer promises: endpoints in, one endpoint out, leases for calls in flight."""

from __future__ import annotations

import math
import random
import threading
import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Generic, NoReturn, TypedDict, TypeVar
from weakref import WeakValueDictionary

from microservice_core import Endpoint, InvalidValueError, NoInstanceAvailableError

from .explanation import Explanation
from .lease import Lease

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

__all__ = ("Balancer", "CommonOptions", "Key", "Node", "SelectingBalancer")

E = TypeVar("E", bound=Endpoint)
Key = str | bytes | None


class Node(Generic[E]):
    """An endpoint and what the balancer has learned of it; survives every `update`.

    Attributes:
        endpoint: as the last `update` gave it.
        weight: above 0 while the node can be picked.
        active: leases not yet released.
    """

    __slots__ = ("__weakref__", "active", "endpoint", "weight")

    def __init__(self, endpoint: E) -> None:
        self.endpoint = endpoint
        self.weight = float(endpoint.weight)
        self.active = 0


class Balancer(ABC, Generic[E]):
    """The contract that algorithms and stages share.

    `update` may run in any thread while others pick: a pick sees the endpoints of before or of
    after, never a mixture. Counters rely on the GIL.
    """

    __slots__ = ("__weakref__",)

    @abstractmethod
    def update(self, endpoints: Iterable[E], *, weights: Sequence[float] | None = None) -> None:
        """Replace the endpoints; those whose `instance_id` stays keep what was learned of them.

        Weight 0 drains an endpoint: it gets no new picks.

        Args:
            endpoints: all there are now.
            weights: to be used in place of the endpoints' own, one for each.

        Raises:
            InvalidValueError: a duplicate or empty id, or a weight that is negative, infinite or
                not a number. Nothing was changed then.
        """

    @abstractmethod
    def pick(self, key: Key = None, exclude: Collection[str] = ()) -> E:
        """Choose an endpoint; it does not count as active.

        Args:
            key: what a hash balancer hashes; the others ignore it.
            exclude: `instance_id`s not to choose, e.g. those a retry has tried.

        Raises:
            NoInstanceAvailableError: nobody is left to choose.
        """

    @abstractmethod
    def acquire(self, key: Key = None, exclude: Collection[str] = ()) -> Lease[E]:
        """Choose an endpoint and count it active until the lease is released.

        Raises:
            NoInstanceAvailableError: nobody is left to choose.
        """

    @abstractmethod
    def explain(self, key: Key = None, exclude: Collection[str] = ()) -> Explanation[E]:
        """Pick, and say why; for debugging. A rotating balancer thereby moves on by one.

        Raises:
            NoInstanceAvailableError: nobody is left to choose.
        """

    @property
    @abstractmethod
    def endpoints(self) -> Sequence[E]:
        """Those given to the last `update`, in its order."""

    @abstractmethod
    def active(self, instance_id: str) -> int:
        """Leases of that endpoint not yet released; 0 for one that is not known."""


class CommonOptions(TypedDict, total=False):
    """Keyword arguments of every balancer that chooses by itself; see `SelectingBalancer`."""

    name: str
    rng: random.Random | None
    clock: Callable[[], float]
    panic: bool


class SelectingBalancer(Balancer[E]):
    """A balancer that holds the endpoints itself and chooses by an algorithm.

    Args:
        name: the service's name, for messages.
        rng: where randomness comes from; by default the `random` module's own generator.
        clock: monotonic seconds.
        panic: serve an endpoint that is drained or excluded rather than none at all.
    """

    __slots__ = ("_departed", "_eligible", "_lock", "_nodes", "_random", "clock", "name", "panic")

    def __init__(
        self,
        *,
        name: str = "",
        rng: random.Random | None = None,
        clock: Callable[[], float] = time.monotonic,
        panic: bool = False,
    ) -> None:
        self.name = name
        self.clock = clock
        self.panic = panic
        # The module's own generator is reseeded after a fork, one of ours would repeat itself.
        self._random = random.random if rng is None else rng.random
        self._lock = threading.Lock()
        self._nodes: dict[str, Node[E]] = {}
        # Gone, but with leases out: an endpoint that comes back finds its count again.
        self._departed: WeakValueDictionary[str, Node[E]] = WeakValueDictionary()
        self._eligible: list[Node[E]] = []
        self._rebuild(self._eligible)

    def update(self, endpoints: Iterable[E], *, weights: Sequence[float] | None = None) -> None:
        listed = list(endpoints)
        used = checked_weights(listed, weights)
        if self.panic and not any(used):
            used = [1.0] * len(used)
        with self._lock:
            nodes = {e.instance_id: self._node_of(e) for e in listed}
            for node, endpoint, weight in zip(nodes.values(), listed, used, strict=True):
                node.endpoint, node.weight = endpoint, weight
            self._remember_busy(self._nodes.keys() - nodes.keys())
            self._nodes = nodes
            self._eligible = [node for node in nodes.values() if node.weight > 0]
            self._rebuild(self._eligible)

    def acquire(self, key: Key = None, exclude: Collection[str] = ()) -> Lease[E]:
        return self.lease(self.pick(key, exclude))

    def lease(self, endpoint: E) -> Lease[E]:
        """Count an endpoint active that was picked some other way."""
        node = self._counted(endpoint)
        node.active += 1
        return Lease(self, node)

    def explain(self, key: Key = None, exclude: Collection[str] = ()) -> Explanation[E]:
        node = self._counted(self.pick(key, exclude))
        drained = len(self._nodes) - len(self._eligible)
        left_out = f", {len(exclude)} ids excluded" if exclude else ""
        among = f"{self!r}: {len(self._eligible)} of weight above 0, {drained} drained{left_out}"
        return Explanation(node.endpoint, (among, self._why(node, key)))

    @property
    def endpoints(self) -> Sequence[E]:
        return tuple(node.endpoint for node in self._nodes.values())

    def active(self, instance_id: str) -> int:
        node = self._nodes.get(instance_id)
        return node.active if node is not None else 0

    def __repr__(self) -> str:
        options = ", ".join(f"{key}={value!r}" for key, value in self._options().items())
        return f"{type(self).__name__}({options})"

    @abstractmethod
    def _rebuild(self, nodes: list[Node[E]]) -> None:
        """Prepare picks among these nodes (all of weight above 0) and publish them at once."""

    def _release(
        self,
        node: Node[E],
        started: float,
        error: BaseException | None,
    ) -> None:
        """One lease ended; an `error` that is no `Exception` (a cancellation) is neutral."""
        node.active -= 1

    def _why(self, node: Node[E], key: Key) -> str:
        """Why this node was chosen, as far as it can be told afterwards."""
        return f"{node.endpoint.instance_id!r}: weight {node.weight:g}, {node.active} active"

    def _options(self) -> dict[str, object]:
        """What the repr shows."""
        return {}

    def _node_of(self, endpoint: E) -> Node[E]:
        key = endpoint.instance_id
        return self._nodes.get(key) or self._departed.get(key) or self._new_node(endpoint)

    def _remember_busy(self, gone: Iterable[str]) -> None:
        for instance_id in gone:
            node = self._nodes[instance_id]
            if node.active:
                self._departed[instance_id] = node

    def _new_node(self, endpoint: E) -> Node[E]:
        return Node(endpoint)

    def _counted(self, endpoint: E) -> Node[E]:
        """The endpoint's node; one of its own if an update removed it since it was picked."""
        return self._nodes.get(endpoint.instance_id) or self._new_node(endpoint)

    def _admitted(self, exclude: Collection[str]) -> list[Node[E]]:
        """The nodes that may be picked when some are excluded; all of them in a panic.

        Raises:
            NoInstanceAvailableError: none is left.
        """
        nodes = self._eligible
        left = [node for node in nodes if node.endpoint.instance_id not in exclude]
        if not left and self.panic:
            left = nodes
        if not left:
            self._refuse(exclude)
        return left

    def _refuse(self, exclude: Collection[str] = ()) -> NoReturn:
        if not self._nodes:
            reason = "there are no endpoints"
        elif not self._eligible:
            reason = "every endpoint has weight 0"
        else:
            reason = f"every endpoint with a weight is excluded ({len(exclude)} ids)"
        raise NoInstanceAvailableError(self.name, reason)


def checked_weights(
    endpoints: Sequence[Endpoint], weights: Sequence[float] | None = None
) -> list[float]:
    """Their weights, or those given in their place.

    Raises:
        InvalidValueError: a duplicate or empty id, or a weight no balancer can honour.
    """
    seen: set[str] = set()
    for endpoint in endpoints:
        if not endpoint.instance_id or endpoint.instance_id in seen:
            rule = "a non-empty id, given to one endpoint only"
            raise InvalidValueError("instance_id", endpoint.instance_id, rule)
        seen.add(endpoint.instance_id)
    if weights is None:
        weights = [endpoint.weight for endpoint in endpoints]
    elif len(weights) != len(endpoints):
        raise InvalidValueError("weights", len(weights), f"one for each of {len(endpoints)}")
    return [
        _checked_weight(endpoint.instance_id, weight)
        for endpoint, weight in zip(endpoints, weights, strict=True)
    ]


def _checked_weight(instance_id: str, weight: object) -> float:
    """The weight as a float.

    Raises:
        InvalidValueError: it is negative, infinite or not a number.
    """
    if not (isinstance(weight, int | float) and weight >= 0 and math.isfinite(weight)):
        rule = "a finite number of at least 0"
        raise InvalidValueError(f"weight of {instance_id!r}", weight, rule)
    return float(weight)
