"""Outlier ejection: an endpoint that does worse than its siblings takes no calls for a while."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from statistics import fmean, pstdev
from typing import TYPE_CHECKING

from microservice_core import Endpoint, InvalidValueError

from .balancer import Balancer, E, Key
from .lease import Lease, ObservedLease
from .stage import Listed, NarrowingStage

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from .observer import BalancerObserver

__all__ = ("OutlierConfig", "OutlierEjection")


@dataclass(frozen=True, slots=True, kw_only=True)
class OutlierConfig:
    """When to eject and for how long; the defaults are gRPC's (A50) and, for errors in a row, Envoy's.

    Attributes:
        consecutive_errors: that many errors in a row eject at once; 0 = never for that.
        interval_seconds: how often rates are looked at.
        base_ejection_seconds: how long the first ejection lasts; the n-th lasts n times as long.
        max_ejection_seconds: no ejection lasts longer.
        max_ejection_percent: no more are ejected once that many are; above 0, one always may be,
            but never the last.
        success_rate_stdev_factor: ejects below mean - factor x standard deviation; 0 = never.
        success_rate_minimum_hosts: fewer endpoints with enough calls have no mean worth the name.
        success_rate_request_volume: calls in an interval that are enough.
        failure_percentage_threshold: ejects at that many percent of failures; 0 = never.
        failure_percentage_minimum_hosts, failure_percentage_request_volume: as above.

    Raises:
        InvalidValueError: a field is outside its range.
    """

    consecutive_errors: int = 5
    interval_seconds: float = 10.0
    base_ejection_seconds: float = 30.0
    max_ejection_seconds: float = 300.0
    max_ejection_percent: float = 10.0
    success_rate_stdev_factor: float = 1.9
    success_rate_minimum_hosts: int = 5
    success_rate_request_volume: int = 100
    failure_percentage_threshold: float = 85.0
    failure_percentage_minimum_hosts: int = 5
    failure_percentage_request_volume: int = 50

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            most = 100 if "percent" in name and not name.endswith(("hosts", "volume")) else 1e6
            least = 0.001 if name.endswith("_seconds") else 0
            if not least <= value <= most:
                raise InvalidValueError(name, value, f"a number from {least} to {most:g}")
        if self.max_ejection_seconds < self.base_ejection_seconds:
            rule = f"at least base_ejection_seconds ({self.base_ejection_seconds})"
            raise InvalidValueError("max_ejection_seconds", self.max_ejection_seconds, rule)


class _Record:
    """What is known of one endpoint."""

    __slots__ = ("back_since", "consecutive", "ejected_until", "failures", "successes", "times")

    def __init__(self) -> None:
        self.successes = 0
        self.failures = 0
        self.consecutive = 0
        self.times = 0
        self.ejected_until: float | None = None
        self.back_since = 0.0

    @property
    def calls(self) -> int:
        return self.successes + self.failures

    @property
    def success_rate(self) -> float:
        return self.successes / self.calls


class OutlierEjection(NarrowingStage[E]):
    """Leave out endpoints whose calls fail, for a time that grows with each ejection.

    Sees the calls made through `acquire`, or told to `on_outcome`. Use it or a breaker per
    endpoint, not both: each would starve the other of evidence.

    Source: gRPC proposal A50; Envoy, "Outlier detection".

    Args:
        config: when to eject and for how long.
        is_failure: which errors count; by default every `Exception`. Others count as nothing.
        clock: monotonic seconds.
        observer: told of each ejection and return.
    """

    __slots__ = (
        "_clock",
        "_deciding",
        "_is_failure",
        "_next_look",
        "_next_return",
        "_observer",
        "_records",
        "config",
    )

    def __init__(
        self,
        inner: Balancer[E],
        *,
        config: OutlierConfig | None = None,
        is_failure: Callable[[Exception], bool] = lambda _: True,
        clock: Callable[[], float] = time.monotonic,
        observer: BalancerObserver | None = None,
    ) -> None:
        super().__init__(inner)
        self.config = config or OutlierConfig()
        self._is_failure = is_failure
        self._clock = clock
        self._observer = observer
        self._records: dict[str, _Record] = {}
        self._deciding = threading.RLock()
        self._next_look = clock() + self.config.interval_seconds
        self._next_return: float | None = None

    @property
    def ejected(self) -> frozenset[str]:
        """The ids of those that take no calls now."""
        return frozenset(
            key for key, record in self._records.items() if record.ejected_until is not None
        )

    def update(self, endpoints: Iterable[E], *, weights: Sequence[float] | None = None) -> None:
        with self._deciding:
            super().update(endpoints, weights=weights)
            known = self._records
            self._records = {
                e.instance_id: known.get(e.instance_id) or _Record() for e, _ in self._given
            }

    def pick(self, key: Key = None, exclude: Collection[str] = ()) -> E:
        if self._next_return is not None:
            self._let_return()
        return self._inner.pick(key, exclude)

    def acquire(self, key: Key = None, exclude: Collection[str] = ()) -> Lease[E]:
        if self._next_return is not None:
            self._let_return()
        return ObservedLease(self._inner.acquire(key, exclude), self._count)

    def on_outcome(
        self,
        endpoint: Endpoint,
        duration_seconds: float,
        error: BaseException | None,
    ) -> None:
        """Count a call that held no lease; a cancellation counts as nothing."""
        self._count(endpoint, error)

    def _narrow(self, given: Listed[E]) -> Listed[E]:
        left_out = self.ejected
        return [one for one in given if one[0].instance_id not in left_out]

    def _what(self) -> str:
        return f"OutlierEjection({len(self.ejected)} of {len(self._given)} ejected)"

    def _count(self, endpoint: Endpoint, error: BaseException | None) -> None:
        record = self._records.get(endpoint.instance_id)
        if record is None or (error is not None and not isinstance(error, Exception)):
            return
        if error is None or not self._is_failure(error):
            record.successes += 1
            record.consecutive = 0
        else:
            record.failures += 1
            record.consecutive += 1
            limit = self.config.consecutive_errors
            if limit and record.consecutive >= limit and record.ejected_until is None:
                self._eject_all([(endpoint.instance_id, "consecutive_errors")])
        if self._clock() >= self._next_look:
            self._look()

    def _look(self) -> None:
        """Once per interval: who is worse than the others, who has behaved, counters to zero."""
        with self._deciding:
            now = self._clock()
            if now < self._next_look:
                return
            self._next_look = now + self.config.interval_seconds
            outliers = self._by_success_rate() + self._by_failure_percentage()
            for record in self._records.values():
                record.successes = record.failures = 0
                # A whole interval without an ejection makes the next one shorter.
                behaved = now - record.back_since >= self.config.interval_seconds
                if record.times and record.ejected_until is None and behaved:
                    record.times -= 1
            self._eject_all(outliers)

    def _by_success_rate(self) -> list[tuple[str, str]]:
        config = self.config
        counted = self._with_volume(config.success_rate_request_volume)
        factor = config.success_rate_stdev_factor
        if not factor or len(counted) < max(1, config.success_rate_minimum_hosts):
            return []
        rates = [record.success_rate for record in counted.values()]
        least = fmean(rates) - factor * pstdev(rates)
        return [(key, "success_rate") for key, r in counted.items() if r.success_rate < least]

    def _by_failure_percentage(self) -> list[tuple[str, str]]:
        config = self.config
        counted = self._with_volume(config.failure_percentage_request_volume)
        most = config.failure_percentage_threshold
        if not most or len(counted) < max(1, config.failure_percentage_minimum_hosts):
            return []
        return [
            (key, "failure_percentage")
            for key, record in counted.items()
            if 100 * (1 - record.success_rate) >= most
        ]

    def _with_volume(self, calls: int) -> dict[str, _Record]:
        return {
            key: record
            for key, record in self._records.items()
            if record.ejected_until is None and record.calls >= max(1, calls)
        }

    def _eject_all(self, outliers: list[tuple[str, str]]) -> None:
        with self._deciding:
            told = [(key, reason) for key, reason in outliers if self._eject(key)]
            if told:
                self._changed()
        endpoints = {endpoint.instance_id: endpoint for endpoint, _ in self._given}
        for key, reason in told:
            if self._observer is not None:
                self._observer.ejected(endpoints[key], reason)

    def _eject(self, key: str) -> bool:
        record, config = self._records.get(key), self.config
        if record is None or record.ejected_until is not None:
            return False
        already = len(self.ejected)
        if 100 * already >= config.max_ejection_percent * len(self._records):
            return False
        if already + 1 >= len(self._records):  # a bad one is better than none
            return False
        record.times += 1
        record.consecutive = 0
        seconds = min(config.base_ejection_seconds * record.times, config.max_ejection_seconds)
        record.ejected_until = self._clock() + seconds
        return True

    def _let_return(self) -> None:
        due = self._next_return
        if due is None or self._clock() < due or not self._deciding.acquire(blocking=False):
            return
        try:
            now = self._clock()
            back = [
                endpoint
                for endpoint, _ in self._given
                if (until := self._records[endpoint.instance_id].ejected_until) is not None
                and until <= now
            ]
            for endpoint in back:
                record = self._records[endpoint.instance_id]
                record.ejected_until, record.back_since = None, now
            self._changed()
        finally:
            self._deciding.release()
        for endpoint in back:
            if self._observer is not None:
                self._observer.returned(endpoint)

    def _changed(self) -> None:
        times = [r.ejected_until for r in self._records.values() if r.ejected_until is not None]
        self._next_return = min(times, default=None)
        self._pass_on(self._given)
