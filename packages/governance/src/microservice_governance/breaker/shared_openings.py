"""What both classes of breaker sharing have in common: everything but sending and waiting."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Generic, TypeVar, cast

from microservice_core import InvalidValueError, call_after_fork
from microservice_governance import _steps
from microservice_governance._redis import REDIS_FAILURES, describe_failure, is_encodable
from microservice_governance.events import PolicyEvent, StateChanged

from .circuit_breaker import CircuitBreaker
from .config import BreakerState
from .keyed import KeyedCircuitBreakers

__all__ = ("Breakers", "SharedOpenings")

logger = logging.getLogger(__name__)

ClientT = TypeVar("ClientT")

Breakers = KeyedCircuitBreakers | Iterable[CircuitBreaker]

# KEYS: the set of processes that reported an opening, the present opening, the number of the last
# opening. ARGV: this process, then window, quorum and open time (times in milliseconds). Each
# opening gets one number, its epoch, so that a process applies it once. Every key has a TTL.
_REPORT_SCRIPT = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local window, quorum, open = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - window)
redis.call('ZREMRANGEBYSCORE', KEYS[1], now + window, '+inf')
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('PEXPIRE', KEYS[1], window)
if redis.call('ZCARD', KEYS[1]) < quorum or redis.call('EXISTS', KEYS[2]) == 1 then return 0 end
local epoch = redis.call('INCR', KEYS[3])
redis.call('PEXPIRE', KEYS[3], 604800000)
redis.call('SET', KEYS[2], epoch, 'PX', open)
return epoch
"""

_KEYS_PER_READ = 500
_ESCAPES = str.maketrans({"{": "%7B", "}": "%7D", "%": "%25"})


class SharedOpenings(ABC, Generic[ClientT]):
    """Collects the openings of this process, reports them, and applies those of all.

    No I/O here: an exchange is an operation whose commands a subclass sends.
    """

    def __init__(
        self,
        client: ClientT,
        breakers: Breakers,
        *,
        group: str,
        quorum: int = 2,
        window_seconds: float = 10.0,
        every_seconds: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        _validate(group, quorum, window_seconds, every_seconds)
        self._client = client
        self._breakers = breakers if isinstance(breakers, KeyedCircuitBreakers) else list(breakers)
        self._group = group
        self._quorum = quorum
        self._window_seconds = window_seconds
        self._every_seconds = every_seconds
        self._clock = clock
        self._process_id = uuid.uuid4().hex
        self._applied_epochs: dict[str, str] = {}
        self._pending_reports: dict[str, float] = {}  # breaker name: time of its opening
        self._lock = threading.Lock()
        self._applying = threading.local()
        self._reachable = True
        self._failure: str | None = None
        self._unsubscribes: list[Callable[[], None]] = []
        call_after_fork(self._become_another_process)

    def attach(self) -> None:
        """Collect the openings of the breakers from now on.

        Entering the block does this, too; call it in a program that calls `exchange` itself.
        """
        if isinstance(self._breakers, KeyedCircuitBreakers):
            self._unsubscribes = [self._breakers.subscribe(self._on_event)]
        else:
            self._unsubscribes = [breaker.subscribe(self._on_event) for breaker in self._breakers]

    def snapshot(self) -> dict[str, object]:
        """Whether Redis can be used, why not, and which openings are still to be reported."""
        with self._lock:
            pending = sorted(self._pending_reports)
        return {
            "policy": "breaker_sharing",
            "name": self._group,
            "shared": self._reachable,
            "failure": self._failure,
            "pending_reports": pending,
        }

    def detach(self) -> None:
        """Stop collecting openings; closing does this, too."""
        for unsubscribe in self._unsubscribes:
            unsubscribe()

    def _become_another_process(self) -> None:
        """A forked child reports its own openings, not those of its parent, and under its own id."""
        self._process_id = uuid.uuid4().hex
        self._pending_reports = {}

    def _on_event(self, event: PolicyEvent) -> None:
        opened = isinstance(event, StateChanged) and event.new == BreakerState.OPEN
        # An opening that this object has just applied is not an observation of this process: if it
        # were reported, processes would keep each other's circuits open.
        if opened and not getattr(self._applying, "now", False):
            with self._lock:
                self._pending_reports[event.name] = self._clock()
            self._wake()

    @abstractmethod
    def _wake(self) -> None:
        """Make the background loop exchange now; may be called in any thread."""

    def _exchange(self) -> _steps.Operation[None]:
        """Report the openings of this process, then apply those of all."""
        reports = self._take_reports()
        try:
            for _, arguments in reports:
                yield ("EVAL", _REPORT_SCRIPT, *arguments)
            for batch in self._batches():
                epochs = yield ("MGET", *map(self._key, batch))
                self._apply(batch, cast("Sequence[str | bytes | None]", epochs))
            self._set_reachable(True)
        except REDIS_FAILURES as error:
            self._keep_reports([name for name, _ in reports])
            self._set_reachable(False, describe_failure(error))

    def _take_reports(self) -> list[tuple[str, list[str | bytes | int]]]:
        """The reports to send, as breaker name and script arguments; old ones are dropped."""
        with self._lock:
            reports, self._pending_reports = self._pending_reports, {}
        oldest = self._clock() - self._window_seconds
        by_name = {str(breaker.name): breaker for breaker in self._breakers}
        return [
            (name, self._report_arguments(by_name[name]))
            for name, opened_at in reports.items()
            if opened_at >= oldest and name in by_name
        ]

    def _keep_reports(self, names: Sequence[str]) -> None:
        """Queue reports that did not arrive again; they are sent while they are fresh."""
        with self._lock:
            for name in names:
                self._pending_reports.setdefault(name, self._clock())

    def _report_arguments(self, breaker: CircuitBreaker) -> list[str | bytes | int]:
        key = self._key(breaker)
        open_seconds = breaker.retry_after or breaker.config.open_seconds
        times = [int(self._window_seconds * 1000), self._quorum, max(1, int(open_seconds * 1000))]
        return [3, key + b":by", key, key + b":epoch", self._process_id, *times]

    def _key(self, breaker: CircuitBreaker) -> bytes:
        # A name may end in a key that a caller chose, so it may hold a lone surrogate.
        key = f"cb:{{{self._group}}}:{str(breaker.name).translate(_ESCAPES)}"
        return key.encode("utf-8", "surrogatepass")

    def _batches(self) -> list[list[CircuitBreaker]]:
        breakers = list(self._breakers)
        names = {str(breaker.name) for breaker in breakers}
        self._applied_epochs = {
            name: epoch for name, epoch in self._applied_epochs.items() if name in names
        }
        return [
            breakers[start : start + _KEYS_PER_READ]
            for start in range(0, len(breakers), _KEYS_PER_READ)
        ]

    def _apply(
        self, breakers: Sequence[CircuitBreaker], epochs: Sequence[str | bytes | None]
    ) -> None:
        self._applying.now = True
        try:
            for breaker, epoch in zip(breakers, epochs, strict=True):
                if epoch is not None:
                    self._apply_epoch(
                        breaker, epoch.decode() if isinstance(epoch, bytes) else epoch
                    )
        finally:
            self._applying.now = False

    def _apply_epoch(self, breaker: CircuitBreaker, epoch: str) -> None:
        name = str(breaker.name)
        if self._applied_epochs.get(name) == epoch:
            return
        self._applied_epochs[name] = epoch
        if breaker.current_state is BreakerState.CLOSED:
            breaker.open()

    def _set_reachable(self, reachable: bool, failure: str | None = None) -> None:
        """Log one line per change."""
        self._failure = failure
        if reachable == self._reachable:
            return
        self._reachable = reachable
        if reachable:
            logger.info("breakers of %r are shared through Redis again", self._group)
        else:
            logger.warning(
                "breakers of %r cannot use Redis (%s); each process decides alone until it can",
                self._group,
                failure,
            )


def _validate(group: str, quorum: int, window_seconds: float, every_seconds: float) -> None:
    if not group or set(group) & set("{}") or not is_encodable(group):
        raise InvalidValueError("group", group, "a text that UTF-8 can encode, without braces")
    if not 1 <= quorum <= 10_000:
        raise InvalidValueError("quorum", quorum, "a whole number from 1 to 10000")
    if not 0.1 <= window_seconds <= 3600:
        raise InvalidValueError("window_seconds", window_seconds, "from 0.1 to 3600")
    if not 0.01 <= every_seconds <= 60:
        raise InvalidValueError("every_seconds", every_seconds, "from 0.01 to 60")
