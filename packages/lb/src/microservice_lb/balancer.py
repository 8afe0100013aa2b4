"""The contract of every balancer: endpoints in, one endpoint out, leases for calls in flight."""

from __future__ import annotations

import math
import random
import threading
import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypedDict, TypeVar
from weakref import WeakValueDictionary

from microservice_core import Endpoint, InvalidValueError, NoInstanceAvailableError

from .explanation import Explanation
from .lease import Lease
from .node import E, Node

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

__all__ = ("Balancer", "CommonOptions", "Key", "NodeBalancer", "SelectingBalancer")

N = TypeVar("N", bound=Node[Any])
Key = str | bytes | None

_MAX_DRAWS = 4


class Balancer(ABC, Generic[E]):
    """The contract that algorithms and stages share.

    `update` may run in any thread while others pick: a pick sees either the old or the new
    endpoints, never a mixture. Counters rely on the GIL.
    """

    __slots__ = ("__weakref__",)

    @abstractmethod
    def update(self, endpoints: Iterable[E], *, weights: Sequence[float] | None = None) -> None:
        """Replace the endpoints; those whose `instance_id` stays keep their counts and averages.

        Weight 0 drains an endpoint: it gets no new picks.

        Args:
            endpoints: the complete new list.
            weights: one weight per endpoint, used in place of `endpoint.weight`.

        Raises:
            InvalidValueError: an id is empty or not unique, or a weight is negative, infinite or
                not a number. The balancer is unchanged then.
        """

    @abstractmethod
    def pick(self, key: Key = None, exclude: Collection[str] = ()) -> E:
        """Choose an endpoint; it does not count as active.

        Args:
            key: what a hash balancer hashes; the others ignore it.
            exclude: `instance_id`s not to choose, e.g. those that earlier attempts used.

        Raises:
            NoInstanceAvailableError: no endpoint remains.
            InvalidValueError: `exclude` is one id, not a collection; a hash balancer also raises it
                for a key of another type.
        """

    @abstractmethod
    def acquire(self, key: Key = None, exclude: Collection[str] = ()) -> Lease[E]:
        """Choose an endpoint and count it active until the lease is released.

        Raises:
            NoInstanceAvailableError: no endpoint remains.
        """

    @abstractmethod
    def explain(self, key: Key = None, exclude: Collection[str] = ()) -> Explanation[E]:
        """Pick and give the reasons, for debugging. It uses up a turn of a rotating balancer.

        Raises:
            NoInstanceAvailableError: no endpoint remains.
        """

    @property
    @abstractmethod
    def endpoints(self) -> Sequence[E]:
        """The endpoints of the last `update`, in the same order."""

    @abstractmethod
    def active(self, instance_id: str) -> int:
        """Number of leases of that endpoint not yet released; 0 for an unknown id."""


class CommonOptions(TypedDict, total=False):
    """Keyword arguments of every balancer that holds endpoints itself; see `NodeBalancer`."""

    name: str
    rng: random.Random | None
    clock: Callable[[], float]
    panic: bool


class NodeBalancer(Balancer[E], Generic[E, N]):
    """A balancer that holds the endpoints itself, each in a node, and chooses by an algorithm.

    A subclass names the type of its nodes and makes them in `_make_node`; one that learns nothing
    about an endpoint but its active calls derives from `SelectingBalancer`.

    Args:
        name: the service's name, for messages.
        rng: source of randomness; by default the `random` module's own generator.
        clock: monotonic seconds.
        panic: choose a drained or excluded endpoint when no other remains, instead of raising.
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
        # The module's own generator is reseeded after a fork; a generator made here would give
        # the same picks in every child.
        self._random = random.random if rng is None else rng.random
        self._lock = threading.Lock()
        self._nodes: dict[str, N] = {}
        # Removed, but with leases not yet released (these keep the node alive): an endpoint that
        # comes back meanwhile must not start at 0 active calls.
        self._departed: WeakValueDictionary[str, N] = WeakValueDictionary()
        self._eligible: list[N] = []
        self._rebuild(self._eligible)

    def update(self, endpoints: Iterable[E], *, weights: Sequence[float] | None = None) -> None:
        listed = list(endpoints)
        weights_in_use = validate_weights(listed, weights)
        if self.panic and not any(weights_in_use):
            weights_in_use = [1.0] * len(listed)
        with self._lock:
            nodes = {e.instance_id: self._reuse_node(e) for e in listed}
            eligible: list[N] = []
            for node, endpoint, weight in zip(nodes.values(), listed, weights_in_use, strict=True):
                node.endpoint = endpoint
                if weight > 0:
                    node.weight = weight
                    eligible.append(node)
            self._remember_busy(self._nodes.keys() - nodes.keys())
            self._nodes = nodes
            self._eligible = eligible
            self._rebuild(eligible)

    def acquire(self, key: Key = None, exclude: Collection[str] = ()) -> Lease[E]:
        return self.lease(self.pick(key, exclude))

    def lease(self, endpoint: E) -> Lease[E]:
        """Count an endpoint active that the caller chose by itself."""
        return self._start_lease(self._find_node(endpoint))

    def weights(self) -> dict[str, float]:
        """Weights in use by `instance_id`, without endpoints of weight 0."""
        return {node.endpoint.instance_id: node.weight for node in self._eligible}

    def explain(self, key: Key = None, exclude: Collection[str] = ()) -> Explanation[E]:
        node = self._find_node(self.pick(key, exclude))
        drained = len(self._nodes) - len(self._eligible)
        excluded = f", {len(exclude)} ids excluded" if exclude else ""
        choice = f"{self!r}: {len(self._eligible)} of weight above 0, {drained} drained{excluded}"
        return Explanation(node.endpoint, (choice, self._reason(node, key)))

    @property
    def endpoints(self) -> Sequence[E]:
        return tuple(node.endpoint for node in self._nodes.values())

    def active(self, instance_id: str) -> int:
        node = self._nodes.get(instance_id)
        return node.active if node is not None else 0

    def __repr__(self) -> str:
        options = ", ".join(f"{key}={value!r}" for key, value in self._repr_options().items())
        return f"{type(self).__name__}({options})"

    @abstractmethod
    def _make_node(self, endpoint: E) -> N:
        """A node for an endpoint that is new."""

    @abstractmethod
    def _rebuild(self, nodes: list[N]) -> None:
        """Prepare picks among these nodes (all of weight above 0) and publish them at once."""

    def _start_lease(self, node: N) -> Lease[E]:
        node.active += 1
        return Lease(self, node)

    def _release(self, node: N, started: float, error: BaseException | None) -> None:
        """End a lease; an `error` that is no `Exception` (a cancellation) is neutral."""
        node.active -= 1

    def _reason(self, node: N, key: Key) -> str:
        """The reason for choosing this node, as far as it is known after the pick."""
        return f"{node.endpoint.instance_id!r}: weight {node.weight:g}, {node.active} active"

    def _repr_options(self) -> dict[str, object]:
        """The options that the repr shows."""
        return {}

    def _reuse_node(self, endpoint: E) -> N:
        key = endpoint.instance_id
        return self._nodes.get(key) or self._departed.get(key) or self._make_node(endpoint)

    def _remember_busy(self, removed_ids: Iterable[str]) -> None:
        for instance_id in removed_ids:
            node = self._nodes[instance_id]
            if node.active:
                self._departed[instance_id] = node

    def _find_node(self, endpoint: E) -> N:
        """The endpoint's node; a new one if an update removed the endpoint since it was picked."""
        return self._nodes.get(endpoint.instance_id) or self._make_node(endpoint)

    def _retry_draw(self, exclude: Collection[str]) -> E | None:
        """Pick without regard to `exclude` until the pick is not excluded; None after a few draws.

        While few endpoints are excluded, this is much cheaper than filtering all of them.
        """
        check_exclude(exclude)
        for _ in range(_MAX_DRAWS if exclude and self._eligible else 0):
            endpoint = self.pick()
            if endpoint.instance_id not in exclude:
                return endpoint
        return None

    def _filter_excluded(self, exclude: Collection[str]) -> list[N]:
        """The nodes that are not excluded; with `panic`, all of them when every one is excluded.

        Raises:
            NoInstanceAvailableError: no node remains.
        """
        nodes = self._eligible
        remaining = [node for node in nodes if node.endpoint.instance_id not in exclude]
        if not remaining and self.panic:
            remaining = nodes
        if not remaining:
            self._raise_unavailable(exclude)
        return remaining

    def _raise_unavailable(self, exclude: Collection[str] = ()) -> NoReturn:
        if not self._nodes:
            reason = "there are no endpoints"
        elif not self._eligible:
            reason = "every endpoint has weight 0"
        else:
            reason = f"every endpoint with a weight is excluded ({len(exclude)} ids)"
        raise NoInstanceAvailableError(self.name, reason)


class SelectingBalancer(NodeBalancer[E, Node[E]]):
    """A balancer that keeps nothing about an endpoint but its weight and its active calls."""

    __slots__ = ()

    def _make_node(self, endpoint: E) -> Node[E]:
        return Node(endpoint)


def check_exclude(exclude: Collection[str]) -> None:
    """Check that `exclude` is no single id: `in` would look for parts of it.

    Raises:
        InvalidValueError: it is one.
    """
    if isinstance(exclude, str | bytes):
        raise InvalidValueError("exclude", exclude, "a collection of instance ids, as a set")


def validate_weights(
    endpoints: Sequence[Endpoint], weights: Sequence[float] | None = None
) -> list[float]:
    """Return the weights to use: `weights`, or else those of the endpoints.

    Raises:
        InvalidValueError: an id is empty or not unique, or a weight is no finite number from 0.
    """
    endpoint_ids: set[str] = set()
    for endpoint in endpoints:
        instance_id = endpoint.instance_id
        if not instance_id or instance_id in endpoint_ids or not _is_encodable(instance_id):
            rule = "a non-empty id that UTF-8 can encode, given to one endpoint only"
            raise InvalidValueError("instance_id", instance_id, rule)
        endpoint_ids.add(instance_id)
    if weights is None:
        weights = [endpoint.weight for endpoint in endpoints]
    elif len(weights) != len(endpoints):
        raise InvalidValueError("weights", len(weights), f"one for each of {len(endpoints)}")
    return [
        _validate_weight(endpoint.instance_id, weight)
        for endpoint, weight in zip(endpoints, weights, strict=True)
    ]


def _is_encodable(instance_id: str) -> bool:
    try:
        return instance_id.isascii() or bool(instance_id.encode())
    except UnicodeEncodeError:
        return False


def _validate_weight(instance_id: str, weight: object) -> float:
    """Return the weight as a float.

    Raises:
        InvalidValueError: the weight is negative, infinite or not a number.
    """
    if not (isinstance(weight, int | float) and weight >= 0 and math.isfinite(weight)):
        rule = "a finite number of at least 0"
        raise InvalidValueError(f"weight of {instance_id!r}", weight, rule)
    return float(weight)
