"""Keeps the route table fresh from a thread of its own; one per registry and process."""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lane_router.errors import RouteTableError

from .poll_schedule import PollSchedule
from .registry_client import Answer, RegistryClient, RegistryUnreachableError
from .table import RouteTable, read_table

if TYPE_CHECKING:
    import random

    from .table_file import TableFile

__all__ = ("NOTHING_YET", "RoutePoller", "TableState")

logger = logging.getLogger(__name__)

_SHRINK_SHARE = 0.5
_SAVE_AGAIN_SECONDS = 600.0
_QUICK_SECONDS = 1.0
# One that drains, or whose routes change back and forth, answers at once as well, but not always.
_MOST_QUICK = 3
_JOIN_SECONDS, _MOST_JOINS = 0.05, 100


@dataclass(frozen=True, slots=True)
class TableState:
    """What is known and since when.

    Attributes:
        table: None = never seen, neither over the network nor on disk.
        synced_at: when the registry last confirmed it, on the monotonic clock.
        problem: why the registry cannot be used now; empty when it can.
    """

    table: RouteTable | None = None
    synced_at: float | None = None
    problem: str = ""


NOT_ASKED = "not asked yet"
NOTHING_YET = TableState(problem=NOT_ASKED)
Listener = Callable[[TableState], None]


class RoutePoller:
    """Asks the registry, by long-poll where it offers that, and tells its listeners.

    The table is replaced by one assignment. It survives whatever the registry does: an error keeps
    it, and an answer without half of it is believed when the next one says the same.

    Args:
        poll_seconds: between two plain questions, +- 20 %.
        watch_seconds: how long a long-poll may wait.
        confirm_seconds: until a table that shrank is asked for again.
        timeout_seconds: for each answer, on top of what a long-poll waits.
        file: where to keep the last good table.
    """

    def __init__(
        self,
        url: str,
        *,
        file: TableFile | None = None,
        poll_seconds: float = 30.0,
        watch_seconds: float = 55.0,
        confirm_seconds: float = 10.0,
        timeout_seconds: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        rng: random.Random | None = None,
        wait: Callable[[threading.Event, float], object] = threading.Event.wait,
    ) -> None:
        self.url = url
        self.state = NOTHING_YET
        self._file = file
        self._watch_seconds = watch_seconds
        self._confirm_seconds = confirm_seconds
        self._clock = clock
        self._wall_clock = wall_clock
        self._wait = wait
        self._client = RegistryClient(url, timeout_seconds=timeout_seconds, clock=clock)
        self._schedule = PollSchedule(poll_seconds=poll_seconds, rng=rng)
        self._listeners: list[Listener] = []
        self._loaded = False
        self._body = b""
        self._saved_at = 0.0
        self._quick = 0
        self._doubted: str | None = None
        self._etag = ""
        self._forget_thread()
        _pollers.add(self)

    def _forget_thread(self) -> None:
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    @property
    def alive(self) -> bool:
        """Whether its thread runs in this process."""
        return self._thread is not None and self._thread.is_alive()

    def subscribe(self, listener: Listener) -> None:
        """Tell it of every new state, in the poller's thread; it must not block or raise."""
        if listener not in self._listeners:
            self._listeners.append(listener)

    def unsubscribe(self, listener: Listener) -> None:
        """Tell it nothing any more; without anybody to tell, polling ends."""
        if listener in self._listeners:
            self._listeners.remove(listener)
            if not self._listeners:
                self.close()

    def tells(self, listener: Listener) -> bool:
        """Whether it is told."""
        return listener in self._listeners

    def start(self) -> None:
        """Read the snapshot and start the thread; a second call does nothing."""
        with self._lock:
            if self.alive:
                return
            if not self._loaded:
                self._loaded = True
                self._load()
            self._thread = threading.Thread(
                target=self._run, args=(self._stop,), name="lane-router-poller", daemon=True
            )
            self._thread.start()

    def close(self) -> None:
        """End the question under way and the thread; closing twice is fine, so is starting again."""
        with self._lock:
            thread, self._thread = self._thread, None
            self._stop.set()
            self._client.interrupt()
            self._stop = threading.Event()
        if thread is None or thread is threading.current_thread():
            return
        for _ in range(_MOST_JOINS):
            # It may just have connected: the stop flag and this meet sooner or later. Only a name
            # server that does not answer can hold it longer, and then it ends by itself.
            self._client.interrupt()
            thread.join(_JOIN_SECONDS)
            if not thread.is_alive():
                return

    def wait_for_table(self, within_seconds: float) -> bool:
        """Whether there is a table, at the latest after that time."""
        with self._changed:
            return self._changed.wait_for(lambda: self.state.table is not None, within_seconds)

    def after_fork(self) -> None:
        """In the child: the thread stayed behind in the parent; it is started at the next need."""
        self._client.abandon()
        self._forget_thread()
        for listener in tuple(self._listeners):
            listener(self.state)

    def _load(self) -> None:
        found = self._file.load(self._wall_clock()) if self._file else None
        if found is not None:
            table, age = found
            self._show(TableState(table, self._clock() - age, NOT_ASKED))

    def _run(self, stop: threading.Event) -> None:
        while not stop.is_set():
            delay = self._step(stop)
            if stop.is_set():
                return
            self._wait(stop, delay)

    def _step(self, stop: threading.Event) -> float:
        """Ask once; how long to wait before the next time."""
        watch = self._watchable_version()
        began = self._clock()
        try:
            news = self._take(self._ask(watch))
        except RegistryUnreachableError as error:
            return 0.0 if stop.is_set() else self._fail(str(error), error.retry_after_seconds)
        except RouteTableError as error:
            return self._fail(str(error), None)
        if self._doubted is not None:
            return self._confirm_seconds
        quick = self._clock() - began < min(_QUICK_SECONDS, self._watch_seconds / 2)
        self._quick = self._quick + 1 if watch and quick and not news else 0
        waits = self._knows_version() and self._quick < _MOST_QUICK
        return self._schedule.after_watch() if waits else self._schedule.after_poll()

    def _ask(self, watch: str) -> Answer:
        etag = self._etag if self.state.table and self._doubted is None else ""
        return self._client.ask(etag=etag, watch=watch, watch_seconds=self._watch_seconds)

    def _knows_version(self) -> bool:
        return bool(self.state.table and self.state.table.version)

    def _watchable_version(self) -> str:
        """The version to wait with; empty = ask plainly: at first, after trouble, in doubt."""
        if not self._knows_version() or self.state.problem or self._doubted is not None:
            return ""
        return self.state.table.version if self.state.table else ""

    def _take(self, answer: Answer) -> bool:
        """Make the answer the state; whether it is of another version than before."""
        before = self.state.table
        if answer.body is None:
            if before is None:
                raise RouteTableError("nothing changed, it says, and nothing was known")
            self._confirm(before, answer.age_seconds or 0.0)
            self._save(answer.age_seconds or 0.0, changed=False)
            return False
        table = read_table(answer.body)
        if self._shrank_unconfirmed(before, table, answer):
            return False
        changed = before is None or before.services != table.services
        age = answer.age_seconds if answer.age_seconds is not None else 0.0
        self._etag = answer.etag
        self._body = answer.body if self._file else b""
        self._confirm(table, age)
        self._save(age, changed=changed)
        return before is None or before.version != table.version

    def _shrank_unconfirmed(
        self, before: RouteTable | None, table: RouteTable, answer: Answer
    ) -> bool:
        if before is None or table.size >= before.size * _SHRINK_SHARE:
            self._doubted = None
            return False
        sign = repr(sorted(table.services.items()))
        if self._doubted == sign:
            self._doubted = None
            return False
        logger.warning(
            "the registry at %s answers %d routes where there were %d: asking again before "
            "that is believed",
            self.url,
            table.size,
            before.size,
        )
        self._doubted = sign
        return True

    def _confirm(self, table: RouteTable, age_seconds: float) -> None:
        if self.state.problem:
            logger.info("route table from %s: %d services", self.url, len(table.services))
        self._show(TableState(table, self._clock() - age_seconds))

    def _fail(self, reason: str, retry_after_seconds: float | None) -> float:
        if not self.state.problem or self.state.problem == NOT_ASKED:
            logger.warning(
                "no routes from the registry at %s: %s; what was known stays", self.url, reason
            )
        self._quick = 0
        self._show(TableState(self.state.table, self.state.synced_at, reason))
        return self._schedule.after_failure(retry_after_seconds)

    def _save(self, age_seconds: float, *, changed: bool) -> None:
        now = self._wall_clock()
        due = changed or now - self._saved_at >= _SAVE_AGAIN_SECONDS
        if self._file and self._body and due:
            self._saved_at = now
            self._file.save(self._body, now - age_seconds)

    def _show(self, state: TableState) -> None:
        self.state = state
        for listener in tuple(self._listeners):
            listener(state)
        with self._changed:
            self._changed.notify_all()


_pollers: weakref.WeakSet[RoutePoller] = weakref.WeakSet()


def _rearm() -> None:
    for poller in list(_pollers):
        poller.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_rearm)
