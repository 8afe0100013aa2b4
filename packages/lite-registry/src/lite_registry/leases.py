"""Leased instances in memory: each stays as long as it is renewed, by this server's clock."""

from __future__ import annotations

import heapq
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from .errors import Problem
from .instance import Instance, ServiceKey
from .self_preservation import SelfPreservation, match_replacements

__all__ = ("Lease", "LeaseTable", "Precondition")


@dataclass(slots=True)
class Lease:
    """An instance and when it lapses, in seconds of the table's clock.

    Attributes:
        registered_at: when the instance was registered.
        renewed_at: when it was registered or renewed last.
        checked_at: the time of its entry in the table's heap: never later than `expires_at`;
            infinite while it has no entry.
        can_replace: whether it may still take the place of an overdue instance.
        overdue: whether it has lapsed and is kept all the same.
    """

    instance: Instance
    expires_at: float
    registered_at: float
    renewed_at: float
    checked_at: float = float("inf")
    can_replace: bool = True
    overdue: bool = False


@dataclass(frozen=True, slots=True)
class Precondition:
    """The state of a registration that a write requires (RFC 9110, section 13.1).

    Attributes:
        if_match: entity tags, one of which has to be the present one; `*` stands for any, none
            for no condition.
        absent: there must be no registration yet.
    """

    if_match: tuple[str, ...] = ()
    absent: bool = False

    def check(self, present: Instance | None) -> None:
        """Compare with the present registration.

        Raises:
            Problem: 412 when it does not fit.
        """
        if self.absent and present is not None:
            raise _build_conflict("the instance is registered already; leave out If-None-Match")
        if not self.if_match:
            return
        if present is None:
            raise _build_conflict("the instance is not registered; leave out If-Match")
        if "*" not in self.if_match and present.etag not in self.if_match:
            raise _build_conflict(
                "the registration has changed; read it again and repeat the write"
            )


def _build_conflict(detail: str) -> Problem:
    return Problem(412, "Precondition failed", detail)


ANY_STATE = Precondition()


class LeaseTable:
    """Every leased instance of every service; belongs to one thread.

    Args:
        capacity: the most instances.
        on_change: called with the key of each service whose instances change.

    Attributes:
        preserving: whether overdue leases are kept, because too many lapsed at once.
        lapsed: how many leases were removed since they lapsed.
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
        self._checks: list[tuple[float, ServiceKey, str]] = []
        self._count = 0
        self._preservation = preservation or SelfPreservation()
        self._overdue: dict[tuple[ServiceKey, str], float] = {}
        self._lapsed_lately: deque[float] = deque()
        self.preserving = False
        self.lapsed = 0
        self._unconfirmed: set[tuple[ServiceKey, str]] = set()

    def __len__(self) -> int:
        return self._count

    @property
    def scheduled_checks(self) -> int:
        """The number of scheduled checks for lapses; in proportion to the number of leases."""
        return len(self._checks)

    def list_services(self) -> list[ServiceKey]:
        """Every service that has an instance, sorted."""
        return sorted(self._services)

    def list_instances(self, key: ServiceKey) -> list[Instance]:
        """The service's instances, sorted by id."""
        leases = self._services.get(key, {})
        return [leases[instance_id].instance for instance_id in sorted(leases)]

    def restore(self, key: ServiceKey, instance: Instance) -> None:
        """Register an instance of an earlier server, which has still to renew here.

        Raises:
            Problem: 507 when the table is full.
        """
        if self.put(key, instance):
            self._unconfirmed.add((key, instance.id))

    def list_unconfirmed(self, key: ServiceKey) -> frozenset[str]:
        """The ids of the service's instances that were restored and have not renewed since."""
        if not self._unconfirmed:
            return frozenset()
        leases = self._services.get(key, {})
        return frozenset(each for each in leases if (key, each) in self._unconfirmed)

    def list_overdue(self, key: ServiceKey) -> frozenset[str]:
        """The ids of the service's instances that have lapsed and are kept."""
        if not self._overdue:
            return frozenset()
        leases = self._services.get(key, {})
        return frozenset(instance_id for instance_id, lease in leases.items() if lease.overdue)

    def find(self, key: ServiceKey, instance_id: str) -> Lease | None:
        """The lease of that instance; None when there is none."""
        return self._services.get(key, {}).get(instance_id)

    def put(
        self, key: ServiceKey, instance: Instance, precondition: Precondition = ANY_STATE
    ) -> bool:
        """Register the instance, or renew it with a full document; returns whether it is new.

        Raises:
            Problem: 412 when the precondition fails, 507 when the table is full.
        """
        present = self.find(key, instance.id)
        precondition.check(present.instance if present else None)
        if present is None:
            self._add(key, instance)
            return True
        is_changed = present.instance != instance
        present.instance = instance
        self._extend(key, present)
        if is_changed:
            self._on_change(key)
        return False

    def renew(self, key: ServiceKey, instance_id: str) -> Lease:
        """Restart the time of the lease.

        Raises:
            Problem: 404 when there is no such lease, or no longer.
        """
        lease = self.find(key, instance_id)
        if lease is None:
            raise build_not_registered(key, instance_id)
        self._extend(key, lease)
        return lease

    def remove(
        self, key: ServiceKey, instance_id: str, precondition: Precondition = ANY_STATE
    ) -> bool:
        """Remove the instance; returns whether it existed.

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
        """Remove every instance whose lease has lapsed; returns how many.

        When more have lapsed than `SelfPreservation` allows, only those are removed that others
        have replaced, and `preserving` is set.
        """
        now = self._clock()
        self._collect_overdue(now)
        count = self._drop_replaced() if self._overdue else 0
        while (
            self._lapsed_lately
            and self._lapsed_lately[0] <= now - self._preservation.window_seconds
        ):
            self._lapsed_lately.popleft()
        allowed = self._preservation.count_allowed(self._count, len(self._lapsed_lately))
        self.preserving = len(self._overdue) > allowed
        lapsed: dict[ServiceKey, list[str]] = {}
        for (key, instance_id), since in self._overdue.items():
            if not self.preserving or now - since >= self._preservation.longest_seconds:
                lapsed.setdefault(key, []).append(instance_id)
        for key, instance_ids in lapsed.items():
            self._drop(key, instance_ids)
            self._lapsed_lately.extend([now] * len(instance_ids))
        self._mark_overdue()
        count += sum(map(len, lapsed.values()))
        self.lapsed += count
        return count

    def _drop_replaced(self) -> int:
        """Remove the overdue instances that others have replaced; returns how many."""
        waiting: dict[ServiceKey, list[tuple[float, str]]] = {}
        for key, instance_id in self._overdue:
            renewed_at = self._services[key][instance_id].renewed_at
            waiting.setdefault(key, []).append((renewed_at, instance_id))
        count = 0
        for key, overdue in waiting.items():
            leases = self._services[key]
            candidates = [
                (lease.registered_at, instance_id)
                for instance_id, lease in leases.items()
                if lease.can_replace
                and lease.renewed_at > lease.registered_at
                and (key, instance_id) not in self._overdue
            ]
            pairs = match_replacements(overdue, candidates)
            for _, candidate in pairs:
                leases[candidate].can_replace = False
            if pairs:
                self._drop(key, [instance_id for instance_id, _ in pairs])
            count += len(pairs)
        return count

    def _mark_overdue(self) -> None:
        for key, instance_id in self._overdue:
            lease = self._services[key][instance_id]
            if not lease.overdue:
                lease.overdue = True
                self._on_change(key)

    def _collect_overdue(self, now: float) -> None:
        while self._checks and self._checks[0][0] <= now:
            checked_at, key, instance_id = heapq.heappop(self._checks)
            lease = self.find(key, instance_id)
            if lease is None or lease.checked_at != checked_at:
                continue
            lease.checked_at = float("inf")
            if lease.expires_at > now:
                self._schedule_check(lease.expires_at, key, lease)
            else:
                self._overdue[key, instance_id] = now

    def next_lapse(self) -> float | None:
        """When to call `expire` next, by the table's clock; perhaps too early, never too late."""
        return self._checks[0][0] if self._checks else None

    def _add(self, key: ServiceKey, instance: Instance) -> None:
        if self._count >= self._capacity:
            raise Problem(
                507, "Registry full", f"{self._capacity} instances are registered; raise --capacity"
            )
        now = self._clock()
        lease = Lease(instance, self._compute_expiry(instance), now, now)
        self._services.setdefault(key, {})[instance.id] = lease
        self._count += 1
        self._schedule_check(lease.expires_at, key, lease)
        self._on_change(key)

    def _drop(self, key: ServiceKey, instance_ids: Iterable[str]) -> None:
        leases = self._services[key]
        for instance_id in instance_ids:
            del leases[instance_id]
            self._overdue.pop((key, instance_id), None)
            self._unconfirmed.discard((key, instance_id))
            self._count -= 1
        if not leases:
            del self._services[key]
        self._on_change(key)

    def _extend(self, key: ServiceKey, lease: Lease) -> None:
        lease.renewed_at = self._clock()
        lease.expires_at = self._compute_expiry(lease.instance)
        self._overdue.pop((key, lease.instance.id), None)
        if lease.overdue or (key, lease.instance.id) in self._unconfirmed:
            lease.overdue = False
            self._unconfirmed.discard((key, lease.instance.id))
            self._on_change(key)
        self._schedule_check(lease.expires_at, key, lease)

    def _compute_expiry(self, instance: Instance) -> float:
        return self._clock() + instance.ttl_seconds if instance.ephemeral else float("inf")

    def _schedule_check(self, time: float, key: ServiceKey, lease: Lease) -> None:
        # A renewal only moves `expires_at`, and costs no heap operation: the entry stays where it
        # is, and when its time comes it is pushed again for the later expiry.
        if time >= lease.checked_at:
            return
        lease.checked_at = time
        heapq.heappush(self._checks, (time, key, lease.instance.id))
        if len(self._checks) > 2 * self._count + 64:
            self._drop_dead_entries()

    def _drop_dead_entries(self) -> None:
        self._checks = [
            (lease.checked_at, key, instance_id)
            for key, leases in self._services.items()
            for instance_id, lease in leases.items()
            if lease.checked_at < float("inf")
        ]
        heapq.heapify(self._checks)


def build_not_registered(key: ServiceKey, instance_id: str) -> Problem:
    """404 for an instance that is not registered."""
    return Problem(
        404,
        "Not registered",
        f"service {key.name!r} has no instance {instance_id!r}; register it with PUT",
    )
