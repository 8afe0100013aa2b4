"""Outlier ejection: an endpoint that fails more than the others gets no calls for a while."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from statistics import fmean, pstdev
from typing import TYPE_CHECKING

from microservice_core import Endpoint, InvalidValueError

from .balancer import Balancer, Key
from .lease import Lease, ObservedLease
from .node import E
from .stage import NarrowingStage, WeightedEndpoints

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from .observer import BalancerObserver

__all__ = ("OutlierConfig", "OutlierEjection")


@dataclass(frozen=True, slots=True, kw_only=True)
class OutlierConfig:
    """When to eject and for how long; the defaults are gRPC's (A50) and, for errors in a row, Envoy's.

    Attributes:
        consecutive_errors: this many errors in a row eject at once; 0 = never.
        interval_seconds: how often success rates are compared.
        base_ejection_seconds: how long the first ejection lasts; the n-th lasts n times as long.
        max_ejection_seconds: the longest an ejection lasts.
        max_ejection_percent: no further endpoint is ejected once this share is; above 0, one
            endpoint may always be ejected, but never the last.
        success_rate_stdev_factor: ejects below mean - factor x standard deviation; 0 = never.
        success_rate_minimum_hosts: endpoints with enough calls that are needed to compare rates.
        success_rate_request_volume: calls of an endpoint in an interval that are enough.
        failure_percentage_threshold: ejects from this percentage of failures on; 0 = never.
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


class _EndpointRecord:
    """The outcomes and ejections of one endpoint.

    Attributes:
        consecutive: errors since the last success.
        ejected_until: clock time; None while the endpoint gets calls.
        ejections: multiplies the next ejection's length; falls by 1 per interval without trouble.
        returned_at: clock time at which the last ejection ended.
    """

    __slots__ = (
        "consecutive",
        "ejected_until",
        "ejections",
        "failures",
        "returned_at",
        "successes",
    )

    def __init__(self) -> None:
        self.successes = 0
        self.failures = 0
        self.consecutive = 0
        self.ejections = 0
        self.ejected_until: float | None = None
        self.returned_at = 0.0

    @property
    def calls(self) -> int:
        return self.successes + self.failures

    @property
    def success_rate(self) -> float:
        return self.successes / self.calls


class OutlierEjection(NarrowingStage[E]):
    """Leave out endpoints whose calls fail, for a time that grows with each ejection.

    Counts calls made through `acquire`, or reported to `on_outcome`; not those that end while their
    endpoint is ejected, so after its return it begins without errors. Use either this or a breaker
    per endpoint, not both: each would hide failures from the other.

    Source: gRPC proposal A50; Envoy, "Outlier detection".

    Args:
        config: when to eject and for how long.
        is_failure: returns whether an error counts as a failure or as a success; by default every
            `Exception` is a failure. A cancellation is not counted at all.
        clock: monotonic seconds.
        observer: notified of each ejection and return.
    """

    __slots__ = (
        "_clock",
        "_is_failure",
        "_lock",
        "_next_evaluation",
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
        self._records: dict[str, _EndpointRecord] = {}
        self._lock = threading.RLock()
        self._next_evaluation = clock() + self.config.interval_seconds
        self._next_return: float | None = None

    @property
    def ejected_ids(self) -> frozenset[str]:
        """The ids of the endpoints that get no calls now."""
        return frozenset(
            key for key, record in self._records.items() if record.ejected_until is not None
        )

    def update(self, endpoints: Iterable[E], *, weights: Sequence[float] | None = None) -> None:
        with self._lock:
            super().update(endpoints, weights=weights)
            previous = self._records
            self._records = {
                e.instance_id: previous.get(e.instance_id) or _EndpointRecord()
                for e, _ in self._listed
            }

    def pick(self, key: Key = None, exclude: Collection[str] = ()) -> E:
        if self._next_return is not None:
            self._return_expired()
        return self._inner.pick(key, exclude)

    def acquire(self, key: Key = None, exclude: Collection[str] = ()) -> Lease[E]:
        if self._next_return is not None:
            self._return_expired()
        return ObservedLease(self._inner.acquire(key, exclude), self._record_outcome)

    def on_outcome(
        self,
        endpoint: Endpoint,
        duration_seconds: float,
        error: BaseException | None,
    ) -> None:
        """Count a call that held no lease; a cancellation is not counted."""
        self._record_outcome(endpoint, error)

    def _narrow(self, listed: WeightedEndpoints[E]) -> WeightedEndpoints[E]:
        ejected_ids = self.ejected_ids
        return [(e, weight) for e, weight in listed if e.instance_id not in ejected_ids]

    def _describe(self) -> str:
        return f"OutlierEjection({len(self.ejected_ids)} of {len(self._listed)} ejected)"

    def _record_outcome(self, endpoint: Endpoint, error: BaseException | None) -> None:
        record = self._records.get(endpoint.instance_id)
        if record is None or (error is not None and not isinstance(error, Exception)):
            return
        if record.ejected_until is not None:
            return  # of a call that began before the ejection, which is why there is one
        if error is None or not self._is_failure(error):
            record.successes += 1
            record.consecutive = 0
        else:
            record.failures += 1
            record.consecutive += 1
            limit = self.config.consecutive_errors
            if limit and record.consecutive >= limit:
                self._eject_all([(endpoint.instance_id, "consecutive_errors")])
        if self._clock() >= self._next_evaluation:
            self._evaluate_interval()

    def _evaluate_interval(self) -> None:
        """Once per interval: eject outliers, shorten the next ejections, reset the counters."""
        with self._lock:
            now = self._clock()
            if now < self._next_evaluation:
                return
            self._next_evaluation = now + self.config.interval_seconds
            outliers = self._find_low_success_rates() + self._find_high_failure_percentages()
            for record in self._records.values():
                record.successes = record.failures = 0
                # A whole interval without an ejection makes the next one shorter.
                calm = now - record.returned_at >= self.config.interval_seconds
                if record.ejections and record.ejected_until is None and calm:
                    record.ejections -= 1
            self._eject_all(outliers)

    def _find_low_success_rates(self) -> list[tuple[str, str]]:
        config = self.config
        counted = self._find_with_volume(config.success_rate_request_volume)
        factor = config.success_rate_stdev_factor
        if not factor or len(counted) < max(1, config.success_rate_minimum_hosts):
            return []
        rates = [record.success_rate for record in counted.values()]
        least = fmean(rates) - factor * pstdev(rates)
        return [(key, "success_rate") for key, r in counted.items() if r.success_rate < least]

    def _find_high_failure_percentages(self) -> list[tuple[str, str]]:
        config = self.config
        counted = self._find_with_volume(config.failure_percentage_request_volume)
        most = config.failure_percentage_threshold
        if not most or len(counted) < max(1, config.failure_percentage_minimum_hosts):
            return []
        return [
            (key, "failure_percentage")
            for key, record in counted.items()
            if 100 * (1 - record.success_rate) >= most
        ]

    def _find_with_volume(self, calls: int) -> dict[str, _EndpointRecord]:
        return {
            key: record
            for key, record in self._records.items()
            if record.ejected_until is None and record.calls >= max(1, calls)
        }

    def _eject_all(self, outliers: list[tuple[str, str]]) -> None:
        with self._lock:
            ejected = [(key, reason) for key, reason in outliers if self._eject(key)]
            if ejected:
                self._apply_ejections()
        endpoints = {endpoint.instance_id: endpoint for endpoint, _ in self._listed}
        for key, reason in ejected:
            if self._observer is not None:
                self._observer.on_eject(endpoints[key], reason)

    def _eject(self, key: str) -> bool:
        """Eject an endpoint unless too many are; return whether it was ejected."""
        record, config = self._records.get(key), self.config
        if record is None or record.ejected_until is not None:
            return False
        count = len(self.ejected_ids)
        if 100 * count >= config.max_ejection_percent * len(self._records):
            return False
        if count + 1 >= len(self._records):  # a failing endpoint is better than none
            return False
        record.ejections += 1
        record.consecutive = record.successes = record.failures = 0
        seconds = min(config.base_ejection_seconds * record.ejections, config.max_ejection_seconds)
        record.ejected_until = self._clock() + seconds
        return True

    def _return_expired(self) -> None:
        due = self._next_return
        if due is None or self._clock() < due or not self._lock.acquire(blocking=False):
            return
        try:
            now = self._clock()
            returned = [
                endpoint
                for endpoint, _ in self._listed
                if (until := self._records[endpoint.instance_id].ejected_until) is not None
                and until <= now
            ]
            for endpoint in returned:
                record = self._records[endpoint.instance_id]
                record.ejected_until, record.returned_at = None, now
            self._apply_ejections()
        finally:
            self._lock.release()
        for endpoint in returned:
            if self._observer is not None:
                self._observer.on_return(endpoint)

    def _apply_ejections(self) -> None:
        until = [r.ejected_until for r in self._records.values() if r.ejected_until is not None]
        self._next_return = min(until, default=None)
        self._update_inner(self._listed)
