"""Who still lives, where the engine does not say so itself. DELETE it when yours ends leases."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from microservice_core import ServiceInstance

from .json_folder import Record, Service

__all__ = ("LeaseJudge", "Verdict")

BURIED_AFTER_TTLS = 10


@dataclass(frozen=True, slots=True)
class Verdict:
    """Who lives, and who has been silent for so long that the record may go."""

    living: tuple[ServiceInstance, ...]
    buried: tuple[ServiceInstance, ...]


@dataclass(frozen=True, slots=True)
class _Sign:
    beat_ns: int
    silent_since: float


class LeaseJudge:
    """An instance lives while signs of life go on coming, by this process's monotonic clock.

    The wall clock is asked once per instance, at first sight: when it jumps, or when that of another
    machine is wrong, nobody who goes on beating is lost for longer than one beat.

    Args:
        clock: monotonic seconds.
        wall_clock: seconds since the epoch, as the file times have them.
    """

    def __init__(self, clock: Callable[[], float], wall_clock: Callable[[], float]) -> None:
        self._clock = clock
        self._wall_clock = wall_clock
        self._signs: dict[Service, dict[str, _Sign]] = {}

    def judge(self, service: Service, records: Sequence[Record]) -> Verdict:
        """Compare with what was seen before; remembers only what is there now."""
        before = self._signs.pop(service, {})
        signs = {
            record.instance.instance_id: self._sign(record, before.get(record.instance.instance_id))
            for record in records
        }
        if signs:
            self._signs[service] = signs
        silent = [(one, self._silence(one, signs[one.instance.instance_id])) for one in records]
        return Verdict(
            living=tuple(one.instance for one, silence in silent if silence < 1),
            buried=tuple(one.instance for one, silence in silent if silence > BURIED_AFTER_TTLS),
        )

    def _sign(self, record: Record, before: _Sign | None) -> _Sign:
        if before is None:
            age = max(0.0, self._wall_clock() - record.beat_ns / 1e9)
            return _Sign(record.beat_ns, self._clock() - min(age, record.ttl_seconds))
        if before.beat_ns != record.beat_ns:
            return _Sign(record.beat_ns, self._clock())
        return before

    def _silence(self, record: Record, sign: _Sign) -> float:
        """For how many of its times to live it has been silent; persistent ones never are."""
        if not record.instance.ephemeral:
            return 0.0
        return (self._clock() - sign.silent_since) / record.ttl_seconds
