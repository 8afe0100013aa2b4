"""All writing is done by one thread, in order.

So a busy event loop costs no lease, and a late renewal cannot bring back what was deregistered.
"""

from __future__ import annotations

import logging
import os
import queue
import random
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

from microservice_core import InstanceNotFoundError, ServiceInstance, ServiceRegistryError

from .documents import Service
from .exchange import Writer

__all__ = ("LeaseKeeper", "pause")

logger = logging.getLogger(__name__)

SHORTEST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 10.0


@dataclass(slots=True)
class _Held:
    instance: ServiceInstance
    due_at: float
    failures: int = 0


class LeaseKeeper:
    """The thread that writes; it sleeps until something is asked of it or a renewal is due."""

    def __init__(self, writer: Writer, *, clock: Callable[[], float], rng: random.Random) -> None:
        self._writer = writer
        self._clock = clock
        self._rng = rng
        self._work: queue.SimpleQueue[tuple[Callable[[], None], Future[None]] | None]
        self._work = queue.SimpleQueue()
        self._held: dict[tuple[Service, str], _Held] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._pid = 0

    def submit(self, work: Callable[[], None]) -> Future[None]:
        """Do this in the thread, after what was asked before."""
        future: Future[None] = Future()
        with self._lock:
            if self._thread is None:
                self._pid = os.getpid()
                self._thread = threading.Thread(target=self._run, name="lite-leases", daemon=True)
                self._thread.start()
            self._work.put((work, future))
        return future

    def close(self) -> None:
        """Deregister everything held, then end the thread."""
        with self._lock:
            thread, self._thread = self._thread, None
            if thread is None or self._pid != os.getpid():
                return
            self._work.put(None)
        thread.join()

    # The next four run in the thread, as work given to `submit`.

    def register(self, instance: ServiceInstance) -> None:
        self._writer.put(instance)
        self._held[_key(instance)] = _Held(instance, self._next_beat())

    def deregister(self, instance: ServiceInstance) -> None:
        self._held.pop(_key(instance), None)
        self._writer.delete(instance)

    def let_alone(self, instance: ServiceInstance) -> None:
        self._held.pop(_key(instance), None)

    def renew(self, instance: ServiceInstance) -> None:
        held = self._held.get(_key(instance))
        if held is None:
            self._writer.renew(instance)
        else:
            self._beat(held)

    def _run(self) -> None:
        with self._writer.connections():
            while (asked := self._next()) is not None:
                self._do(*asked)
            self._let_go()

    def _next(self) -> tuple[Callable[[], None], Future[None]] | None:
        while True:
            due_at = min((held.due_at for held in self._held.values()), default=None)
            patience = None if due_at is None else max(0.0, due_at - self._clock())
            try:
                return self._work.get(timeout=patience)
            except queue.Empty:
                self._renew_due()

    @staticmethod
    def _do(work: Callable[[], None], future: Future[None]) -> None:
        if not future.set_running_or_notify_cancel():
            return
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - it goes to who asked
            future.set_exception(error)
        else:
            future.set_result(None)

    def _renew_due(self) -> None:
        for held in [held for held in self._held.values() if held.due_at <= self._clock()]:
            try:
                self._beat(held)
            except Exception as error:  # noqa: BLE001 - no single lease costs the others
                held.failures += 1
                held.due_at = self._clock() + pause(held.failures, self._rng)
                if held.failures == 1:
                    logger.warning("%s; it is tried again until it succeeds", error)

    def _beat(self, held: _Held) -> None:
        try:
            self._writer.renew(held.instance)
        except InstanceNotFoundError:
            logger.info("the registry forgot %s; registering again", held.instance.instance_id)
            self._writer.put(held.instance)
        held.failures = 0
        held.due_at = self._next_beat()

    def _next_beat(self) -> float:
        return self._clock() + self._writer.ttl_seconds / 3 * self._rng.uniform(0.9, 1.0)

    def _let_go(self) -> None:
        for held in self._held.values():
            try:
                self._writer.delete(held.instance)
            except ServiceRegistryError as error:
                logger.warning("%s; the lease will lapse by itself", error)
        self._held.clear()


def _key(instance: ServiceInstance) -> tuple[Service, str]:
    return Service.of(instance), instance.instance_id


def pause(failures: int, rng: random.Random) -> float:
    """Seconds until the next try: longer with each failure, and never in step with others."""
    longest = min(LONGEST_PAUSE_SECONDS, SHORTEST_PAUSE_SECONDS * 2 ** min(failures, 10))
    return rng.uniform(longest / 2, longest)
