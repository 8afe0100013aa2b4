"""Keeps the route table current from its own thread; one per registry and process."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from lane_router.errors import RouteTableError

from .poll_schedule import PollSchedule
from .registry_client import RegistryClient, RegistryUnreachableError, RoutesResponse
from .table import RouteTable, parse_table, read_document
from .table_delta import DELTA_FIELDS, apply_delta, is_delta

if TYPE_CHECKING:
    import random

    from .table_file import TableFile

__all__ = ("INITIAL_STATE", "START_RETRY_SECONDS", "PollOptions", "RoutePoller", "TableState")

logger = logging.getLogger(__name__)

_SHRINK_SHARE = 0.5
_SAVE_INTERVAL_SECONDS = 600.0
_QUICK_SECONDS = 1.0
_MOST_QUICK = 3
_JOIN_SECONDS, _MOST_JOINS = 0.05, 100
START_RETRY_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PollOptions:
    """How a registry is polled.

    Attributes:
        poll_seconds: between two plain requests, +- 20 %.
        watch_seconds: how long the registry may hold a long-poll.
        timeout_seconds: for each response, on top of what a long-poll may take.
        confirm_seconds: until a table that shrank by half or more is requested again.
        clock: monotonic seconds.
        wall_clock: seconds since 1970, for the age of the snapshot.
        rng: the source of jitter; None = a new one.
    """

    poll_seconds: float = 30.0
    watch_seconds: float = 55.0
    timeout_seconds: float = 10.0
    confirm_seconds: float = 10.0
    clock: Callable[[], float] = time.monotonic
    wall_clock: Callable[[], float] = time.time
    rng: random.Random | None = None

    def sharing_key(self) -> tuple[object, ...]:
        """Equal for options whose routers can share one poller."""
        # Clocks and random generators count by identity: a router with its own ones, as in a test,
        # must not get a poller that runs by other ones, and they need not be hashable.
        injected = (id(self.clock), id(self.wall_clock), id(self.rng))
        return (
            self.poll_seconds,
            self.watch_seconds,
            self.timeout_seconds,
            self.confirm_seconds,
            *injected,
        )


@dataclass(frozen=True, slots=True)
class TableState:
    """The last valid table, its age, and the state of the registry.

    Attributes:
        table: None = none was ever received, neither over the network nor from disk.
        synced_at: when the registry last confirmed it, on the monotonic clock; None = never.
        problem: why the registry cannot be used now; empty when it can.
    """

    table: RouteTable | None = None
    synced_at: float | None = None
    problem: str = ""


NOT_POLLED = "not polled yet"
INITIAL_STATE = TableState(problem=NOT_POLLED)
Listener = Callable[[TableState], None]


class _Mode(Enum):
    """How the next request is sent, and how long the poller waits before it."""

    POLL = "plain request, every poll_seconds: the first one, or the registry has no long-poll"
    WATCH = "long-poll, sent again as soon as it ends"
    SLOW_WATCH = "long-poll, every poll_seconds: the registry does not hold it"
    CONFIRM = "plain request without ETag, after confirm_seconds: the last table had shrunk"
    RETRY = "plain request, after a back-off: the last one failed"

    @property
    def is_long_poll(self) -> bool:
        return self in {_Mode.WATCH, _Mode.SLOW_WATCH}


class RoutePoller:
    """Requests the routes, by long-poll where the registry offers it, and notifies listeners.

    The table is replaced by one assignment and survives every fault of the registry: an error
    keeps it, and a table that shrank by half or more is used once a second response confirms it.

    The thread is its own supervisor: an error that nobody foresaw is logged and counted, is the
    state's problem until a later request succeeds, and polling goes on after a back-off.

    Attributes:
        url: of the registry.
        state: the last valid table and the state of the registry.
        unforeseen_errors: how often polling ended by an error of this process and was restarted.

    Args:
        url: of the registry.
        options: how it is polled.
        file: where to keep the last valid table; None = nowhere.
        wait: waits for the event or the seconds, whichever comes first; replaced by tests.
    """

    def __init__(
        self,
        url: str,
        options: PollOptions,
        *,
        file: TableFile | None = None,
        wait: Callable[[threading.Event, float], object] = threading.Event.wait,
    ) -> None:
        self.url = url
        self.state = INITIAL_STATE
        self._options = options
        self._file = file
        self._clock = options.clock
        self._wall_clock = options.wall_clock
        self._wait = wait
        self._client = RegistryClient(
            url, timeout_seconds=options.timeout_seconds, clock=options.clock
        )
        self._schedule = PollSchedule(poll_seconds=options.poll_seconds, rng=options.rng)
        self._listeners: list[Listener] = []
        self._snapshot_read = False
        # All services as the registry sent them, to which it may send the changes only.
        self._services: Mapping[str, object] | None = None
        self._body = b""
        self._saved_at = 0.0
        self._mode = _Mode.POLL
        self._quick_watches = 0
        # The routes of a table that shrank and waits for its confirmation; None = no such table.
        self._shrunken: str | None = None
        self._etag = ""
        self._next_start_at = 0.0
        self.unforeseen_errors = 0
        self._reset_thread()
        _pollers.add(self)

    def _reset_thread(self) -> None:
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._state_changed = threading.Condition()
        self._thread: threading.Thread | None = None

    @property
    def is_running(self) -> bool:
        """Whether its thread runs in this process."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def is_confirming(self) -> bool:
        """Whether a table that shrank by half or more waits for a response that confirms it."""
        return self._shrunken is not None

    def subscribe(self, listener: Listener) -> None:
        """Call `listener` with each new state, in the poller's thread; it must not block."""
        if listener not in self._listeners:
            self._listeners.append(listener)

    def unsubscribe(self, listener: Listener) -> None:
        """Stop calling `listener`; the poller closes when no listener remains."""
        if listener in self._listeners:
            self._listeners.remove(listener)
            if not self._listeners:
                self.close()

    def has_listener(self, listener: Listener) -> bool:
        """Whether `listener` is subscribed."""
        return listener in self._listeners

    def start(self) -> None:
        """Read the snapshot and start the thread; a second call does nothing."""
        with self._lock:
            if self.is_running:
                return
            if not self._snapshot_read:
                self._snapshot_read = True
                self._load_snapshot()
            if self._clock() >= self._next_start_at:
                self._start_thread()

    def _start_thread(self) -> None:
        thread = threading.Thread(
            target=self._run, args=(self._stop,), name="lane-router-poller", daemon=True
        )
        try:
            thread.start()
        except RuntimeError as error:
            # No more threads here, or the interpreter is ending. The caller is a lookup in the
            # middle of a request: it is answered from what is known, and a later one tries again.
            self._next_start_at = self._clock() + START_RETRY_SECONDS
            self._handle_failure(f"the poller's thread does not start: {error}", None)
        else:
            self._thread = thread

    def close(self) -> None:
        """Interrupt the request in progress and end the thread; it may be started again."""
        with self._lock:
            thread, self._thread = self._thread, None
            self._stop.set()
            self._client.interrupt()
            self._stop = threading.Event()
        if thread is None or thread is threading.current_thread():
            return
        for _ in range(_MOST_JOINS):
            # The thread may have connected just after the interrupt above, hence repeated: either
            # an interrupt or the stop flag reaches it. Only a name server that does not respond
            # can hold it longer, and then it ends by itself.
            self._client.interrupt()
            thread.join(_JOIN_SECONDS)
            if not thread.is_alive():
                return

    def wait_for_table(self, within_seconds: float) -> bool:
        """Wait for the first table; False if there is none after `within_seconds`."""
        with self._state_changed:
            return self._state_changed.wait_for(
                lambda: self.state.table is not None, within_seconds
            )

    def after_fork(self) -> None:
        """In a forked child: the thread stayed in the parent; it is started again on first use."""
        self._client.abandon()
        # The locks may have been held by a thread of the parent at the moment of the fork.
        self._reset_thread()
        # A new state empties the routers' caches, so that their next lookup starts the thread.
        self._notify_listeners(self.state)

    def _load_snapshot(self) -> None:
        snapshot = self._file.load(self._wall_clock()) if self._file else None
        if snapshot is not None:
            table, age = snapshot
            self._publish_state(TableState(table, self._clock() - age, NOT_POLLED))

    def _run(self, stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                delay = self._poll_once(stop)
            except BaseException as error:  # noqa: BLE001 - the thread has no other owner
                delay = self._handle_unforeseen_error(error)
            if stop.is_set():
                return
            self._wait(stop, delay)

    def _handle_unforeseen_error(self, error: BaseException) -> float:
        """Log and publish an error of this process; the seconds to wait before polling goes on.

        Even SystemExit, raised by a listener, would end the thread without a word: routes would
        be served as if they were fresh, and never change again.
        """
        self.unforeseen_errors += 1
        logger.error("polling %s failed unexpectedly; trying again", self.url, exc_info=error)
        try:
            return self._handle_failure(f"{type(error).__name__}: {error}", None)
        except BaseException:  # a listener, once more; the state is published all the same
            logger.exception("the failure to poll %s could not be told", self.url)
            return self._options.poll_seconds

    def _poll_once(self, stop: threading.Event) -> float:
        """Send one request and apply its response; the seconds to wait before the next one."""
        mode = self._mode
        began = self._clock()
        try:
            version_changed = self._apply_response(self._request_routes(mode))
        except RegistryUnreachableError as error:
            if stop.is_set():  # closed: this is the interrupt, not a failure
                return 0.0
            return self._handle_failure(str(error), error.retry_after_seconds)
        except RouteTableError as error:
            return self._handle_failure(str(error), None)
        self._count_quick_watches(mode, self._clock() - began, version_changed)
        self._mode = self._choose_mode()
        if self._mode is _Mode.CONFIRM:
            return self._options.confirm_seconds
        if self._mode is _Mode.WATCH:
            return self._schedule.delay_after_watch()
        return self._schedule.delay_after_poll()

    def _request_routes(self, mode: _Mode) -> RoutesResponse:
        table = self.state.table
        # No ETag for a table that is in doubt: the confirmation needs its routes, not a 304.
        return self._client.get_routes(
            etag=self._etag if table and self._shrunken is None else "",
            watch=table.version if table and mode.is_long_poll else "",
            watch_seconds=self._options.watch_seconds,
            accepts_delta=self._services is not None,
        )

    def _choose_mode(self) -> _Mode:
        """The mode after a response that could be used."""
        if self._shrunken is not None:
            return _Mode.CONFIRM
        if not (self.state.table and self.state.table.version):
            return _Mode.POLL
        return _Mode.SLOW_WATCH if self._quick_watches >= _MOST_QUICK else _Mode.WATCH

    def _count_quick_watches(self, mode: _Mode, seconds: float, version_changed: bool) -> None:
        # A long-poll that ends at once without a new version was not held: the registry ignores
        # `watch`, and asking again at once would be a hot loop. Three in a row, since a registry
        # that drains before its end, or whose routes change back and forth, does that as well.
        quick = seconds < min(_QUICK_SECONDS, self._options.watch_seconds / 2)
        not_held = mode.is_long_poll and quick and not version_changed
        self._quick_watches = self._quick_watches + 1 if not_held else 0

    def _apply_response(self, response: RoutesResponse) -> bool:
        """Make the response the current state; whether its version differs from the one before.

        Raises:
            RouteTableError: the body is not a route table.
        """
        before = self.state.table
        age = response.age_seconds if response.age_seconds is not None else 0.0
        if response.body is None:
            if before is None:
                raise RouteTableError("the registry responded 304 but no table is cached")
            self._confirm(before, age)
            self._save(age, changed=False)
            return False
        document, body = read_document(response.body), response.body
        if is_delta(document):
            document = self._merge_delta(document)
            body = json.dumps(document).encode() if self._file else b""
        table = parse_table(document)
        if self._needs_confirmation(before, table):
            return False
        services = document["services"]
        self._services = services if isinstance(services, Mapping) and table.version else None
        self._etag = response.etag
        self._body = body if self._file else b""
        self._confirm(table, age)
        self._save(age, changed=before is None or before.services != table.services)
        return before is None or before.version != table.version

    def _merge_delta(self, delta: Mapping[str, object]) -> Mapping[str, object]:
        """The whole document; without the services it builds on, the next request is a plain one."""
        services, self._services = self._services, None
        before = self.state.table
        if services is None or before is None:
            raise RouteTableError("the registry sent changes that were not requested")
        described = {name: part for name, part in delta.items() if name not in DELTA_FIELDS}
        return {**described, "services": apply_delta(services, before.version, delta)}

    def _needs_confirmation(self, before: RouteTable | None, table: RouteTable) -> bool:
        if before is None or table.size >= before.size * _SHRINK_SHARE:
            self._shrunken = None
            return False
        routes = repr(sorted(table.services.items()))
        if self._shrunken == routes:
            self._shrunken = None
            return False
        logger.warning(
            "the registry at %s returned %d routes, previously %d; confirming before applying",
            self.url,
            table.size,
            before.size,
        )
        self._shrunken = routes
        return True

    def _confirm(self, table: RouteTable, age_seconds: float) -> None:
        if self.state.problem:
            logger.info("route table from %s: %d services", self.url, len(table.services))
        self._publish_state(TableState(table, self._clock() - age_seconds))

    def _handle_failure(self, reason: str, retry_after_seconds: float | None) -> float:
        if not self.state.problem or self.state.problem == NOT_POLLED:
            logger.warning(
                "cannot fetch routes from %s: %s; serving the last valid table", self.url, reason
            )
        self._mode = _Mode.RETRY
        self._quick_watches = 0
        self._publish_state(TableState(self.state.table, self.state.synced_at, reason))
        return self._schedule.delay_after_failure(retry_after_seconds)

    def _save(self, age_seconds: float, *, changed: bool) -> None:
        now = self._wall_clock()
        due = changed or now - self._saved_at >= _SAVE_INTERVAL_SECONDS
        if self._file and self._body and due:
            self._saved_at = now
            self._file.save(self._body, now - age_seconds)

    def _publish_state(self, state: TableState) -> None:
        self.state = state
        self._notify_listeners(state)
        with self._state_changed:
            self._state_changed.notify_all()

    def _notify_listeners(self, state: TableState) -> None:
        for listener in tuple(self._listeners):
            try:
                listener(state)
            except Exception:
                logger.exception("a listener of the routes from %s failed", self.url)


_pollers: weakref.WeakSet[RoutePoller] = weakref.WeakSet()


def _restart_after_fork() -> None:
    for poller in list(_pollers):
        poller.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_restart_after_fork)
