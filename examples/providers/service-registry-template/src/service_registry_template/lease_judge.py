"""Which leases have expired, for an engine that does not say so. DELETE it when yours does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from microservice_core import ServiceInstance

from .json_folder import Record, Service

__all__ = ("LeaseJudge", "Verdict")

REMOVED_AFTER_TTLS = 10


@dataclass(frozen=True, slots=True)
class Verdict:
    """The live instances, and those whose lease expired so long ago that the record is removed."""

    live: tuple[ServiceInstance, ...]
    expired: tuple[ServiceInstance, ...]


@dataclass(frozen=True, slots=True)
class _Heartbeat:
    beat_ns: int
    silent_since: float


class LeaseJudge:
    """Judges leases by this process's monotonic clock: live is what was renewed in time.

    The wall clock is read once per instance, at first sight: when it jumps, or when another machine's
    is wrong, an instance that keeps renewing is missing for one heartbeat at most.

    Args:
        clock: monotonic seconds.
        wall_clock: seconds since the epoch, as the file times have them.
    """

    def __init__(self, clock: Callable[[], float], wall_clock: Callable[[], float]) -> None:
        self._clock = clock
        self._wall_clock = wall_clock
        self._heartbeats: dict[Service, dict[str, _Heartbeat]] = {}

    def judge(self, service: Service, records: Sequence[Record]) -> Verdict:
        """Compare the records with those of the last call, and remember only the present ones."""
        before = self._heartbeats.pop(service, {})
        heartbeats = {
            record.instance.instance_id: self._note_heartbeat(
                record, before.get(record.instance.instance_id)
            )
            for record in records
        }
        if heartbeats:
            self._heartbeats[service] = heartbeats
        silences = [
            (
                record.instance,
                self._measure_silence(record, heartbeats[record.instance.instance_id]),
            )
            for record in records
        ]
        return Verdict(
            live=tuple(instance for instance, silence in silences if silence < 1),
            expired=tuple(
                instance for instance, silence in silences if silence > REMOVED_AFTER_TTLS
            ),
        )

    def _note_heartbeat(self, record: Record, before: _Heartbeat | None) -> _Heartbeat:
        if before is None:
            age = max(0.0, self._wall_clock() - record.beat_ns / 1e9)
            return _Heartbeat(record.beat_ns, self._clock() - min(age, record.ttl_seconds))
        if before.beat_ns != record.beat_ns:
            return _Heartbeat(record.beat_ns, self._clock())
        return before

    def _measure_silence(self, record: Record, heartbeat: _Heartbeat) -> float:
        """Return how many TTLs ago the last heartbeat was; 0 for a persistent instance."""
        if not record.instance.ephemeral:
            return 0.0
        return (self._clock() - heartbeat.silent_since) / record.ttl_seconds
