"""Leased instances in memory: they live as long as they are renewed, by this server's clock."""

from __future__ import annotations

import heapq
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from .errors import Problem
from .instance import Instance, ServiceKey

__all__ = ("Lease", "LeaseTable", "Precondition", "SelfPreservation")


@dataclass(slots=True)
class Lease:
    """An instance and when it lapses, in seconds of the table's clock.

    Attributes:
        looked_at: when the table looks at it next: never later than `expires_at`, unless overdue.
    """

    instance: Instance
    expires_at: float
    looked_at: float = float("inf")


@dataclass(frozen=True, slots=True)
class Precondition:
    """Which state of a registration a write is meant for (RFC 9110, section 13.1).

    Attributes:
        if_match: entity tags of which one has to be the present one; `*` = any; empty = no matter.
        absent: the write is only meant to create.
    """

    if_match: tuple[str, ...] = ()
    absent: bool = False

    def check(self, present: Instance | None) -> None:
        """Raise 412 when the present registration is another."""
        if self.absent and present is not None:
            raise _conflict("the instance is registered already; leave out If-None-Match")
        if not self.if_match:
            return
        if present is None:
            raise _conflict("the instance is not registered; leave out If-Match")
        if "*" not in self.if_match and present.etag not in self.if_match:
            raise _conflict("the registration has changed; read it again and write on top of that")


def _conflict(detail: str) -> Problem:
    return Problem(412, "Precondition failed", detail)


ANY_STATE = Precondition()


@dataclass(frozen=True, slots=True)
class SelfPreservation:
    """When lapsed leases are kept: so many at once are rather a broken network than dead instances.

    The idea and the name are Eureka's.

    Attributes:
        share: of all leases, how many may lapse within `window_seconds`; 1 = no preservation.
        least: so many may lapse whatever the share.
        longest_seconds: after that an overdue lease goes, whatever the others do.
    """

    share: float = 0.3
    least: int = 10
    window_seconds: float = 30.0
    longest_seconds: float = 900.0

    def allowed(self, present: int, lapsed_lately: int) -> int:
        """How many may lapse now, of so many present, after so many in the window."""
        return max(self.least, int(self.share * (present + lapsed_lately))) - lapsed_lately


class LeaseTable:
    """Every leased instance of every service; belongs to one thread.

    `on_change` is called with the key of each service whose instances are no longer the same.
    """

    def __init__(
        self,
        *,
        capacity: int = 50_000,
        preservation: SelfPreservation | None = None,
        clock: Callable[[], float] = time.monotonic,
        on_change: Callable[[ServiceKey], None] = lambda _: None,
    ) -> None:
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1, not {capacity}")
        self._capacity = capacity
        self._clock = clock
        self._on_change = on_change
        self._services: dict[ServiceKey, dict[str, Lease]] = {}
        self._lapses: list[tuple[float, ServiceKey, str]] = []
        self._count = 0
        self._preservation = preservation or SelfPreservation()
        self._overdue: dict[tuple[ServiceKey, str], float] = {}
        self._lapsed_lately: deque[float] = deque()
        self.preserving = False
        self.lapsed = 0

    def __len__(self) -> int:
        return self._count

    def services(self) -> list[ServiceKey]:
        """Every service that has an instance, sorted."""
        return sorted(self._services)

    def instances(self, key: ServiceKey) -> list[Instance]:
        """The service's instances, sorted by id."""
        leases = self._services.get(key, {})
        return [leases[instance_id].instance for instance_id in sorted(leases)]

    def find(self, key: ServiceKey, instance_id: str) -> Lease | None:
        """The lease of that instance."""
        return self._services.get(key, {}).get(instance_id)

    def put(
        self, key: ServiceKey, instance: Instance, precondition: Precondition = ANY_STATE
    ) -> bool:
        """Register the instance or renew it with a full document; whether it is new.

        Raises:
            Problem: 412 when the precondition fails, 507 when every place is taken.
        """
        present = self.find(key, instance.id)
        precondition.check(present.instance if present else None)
        if present is None:
            self._add(key, instance)
            return True
        changed = present.instance != instance
        present.instance = instance
        self._extend(key, present)
        if changed:
            self._on_change(key)
        return False

    def renew(self, key: ServiceKey, instance_id: str) -> Lease:
        """Start the lease's time anew.

        Raises:
            Problem: 404 when there is no such lease (any more).
        """
        lease = self.find(key, instance_id)
        if lease is None:
            raise not_registered(key, instance_id)
        self._extend(key, lease)
        return lease

    def remove(
        self, key: ServiceKey, instance_id: str, precondition: Precondition = ANY_STATE
    ) -> bool:
        """Take the instance out; whether it was there.

        Raises:
            Problem: 412 when the precondition fails.
        """
        lease = self.find(key, instance_id)
        precondition.check(lease.instance if lease else None)
        if lease is None:
            return False
        self._drop(key, [instance_id])
        return True

    def expire(self) -> int:
        """Take out every instance whose lease has lapsed; how many.

        When more have than `SelfPreservation` allows, none is taken out and `preserving` is set.
        """
        now = self._clock()
        self._collect_overdue(now)
        while self._lapsed_lately and self._lapsed_lately[0] <= now - self._window:
            self._lapsed_lately.popleft()
        allowed = self._preservation.allowed(self._count, len(self._lapsed_lately))
        self.preserving = len(self._overdue) > allowed
        lapsed: dict[ServiceKey, list[str]] = {}
        for (key, instance_id), since in self._overdue.items():
            if not self.preserving or now - since >= self._preservation.longest_seconds:
                lapsed.setdefault(key, []).append(instance_id)
        for key, instance_ids in lapsed.items():
            self._drop(key, instance_ids)
            self._lapsed_lately.extend([now] * len(instance_ids))
        count = sum(map(len, lapsed.values()))
        self.lapsed += count
        return count

    @property
    def _window(self) -> float:
        return self._preservation.window_seconds

    def _collect_overdue(self, now: float) -> None:
        while self._lapses and self._lapses[0][0] <= now:
            looked_at, key, instance_id = heapq.heappop(self._lapses)
            lease = self.find(key, instance_id)
            if lease is None or lease.looked_at != looked_at:
                continue
            lease.looked_at = float("inf")
            if lease.expires_at > now:
                self._look_at(lease.expires_at, key, lease)
            else:
                self._overdue[key, instance_id] = now

    def next_lapse(self) -> float | None:
        """When to call `expire` next, by the table's clock; it may prove too early."""
        return self._lapses[0][0] if self._lapses else None

    def _add(self, key: ServiceKey, instance: Instance) -> None:
        if self._count >= self._capacity:
            raise Problem(
                507, "Registry full", f"{self._capacity} instances are registered; raise --capacity"
            )
        lease = Lease(instance, self._lapse(instance))
        self._services.setdefault(key, {})[instance.id] = lease
        self._count += 1
        self._look_at(lease.expires_at, key, lease)
        self._on_change(key)

    def _drop(self, key: ServiceKey, instance_ids: Iterable[str]) -> None:
        leases = self._services[key]
        for instance_id in instance_ids:
            del leases[instance_id]
            self._overdue.pop((key, instance_id), None)
            self._count -= 1
        if not leases:
            del self._services[key]
        self._on_change(key)

    def _extend(self, key: ServiceKey, lease: Lease) -> None:
        lease.expires_at = self._lapse(lease.instance)
        self._overdue.pop((key, lease.instance.id), None)
        self._look_at(lease.expires_at, key, lease)

    def _lapse(self, instance: Instance) -> float:
        return self._clock() + instance.ttl_seconds if instance.ephemeral else float("inf")

    def _look_at(self, when: float, key: ServiceKey, lease: Lease) -> None:
        # Renewals only move `expires_at`: one entry per lease, looked at when its turn comes.
        if when >= lease.looked_at:
            return
        lease.looked_at = when
        heapq.heappush(self._lapses, (when, key, lease.instance.id))
        if len(self._lapses) > 2 * self._count + 64:
            self._forget_dead_entries()

    def _forget_dead_entries(self) -> None:
        self._lapses = [
            (lease.looked_at, key, instance_id)
            for key, leases in self._services.items()
            for instance_id, lease in leases.items()
            if lease.looked_at < float("inf")
        ]
        heapq.heapify(self._lapses)


def not_registered(key: ServiceKey, instance_id: str) -> Problem:
    """404 for an instance the registry does not know."""
    return Problem(
        404,
        "Not registered",
        f"service {key.name!r} has no instance {instance_id!r}; register it with PUT",
    )
