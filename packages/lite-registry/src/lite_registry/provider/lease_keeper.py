"""One thread does all writing, in order.

So a blocked event loop costs no lease, and a late renewal cannot bring back an instance that was
deregistered meanwhile.
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

from microservice_core import (
    InstanceNotFoundError,
    ServiceInstance,
    ServiceRegistryError,
    backoff_seconds,
    jittered,
)

from .documents import Service
from .exchange import Writer

__all__ = ("LeaseKeeper", "compute_pause")

logger = logging.getLogger(__name__)

_FIRST_PAUSE_SECONDS = 0.4
_MAX_PAUSE_SECONDS = 10.0

Work = Callable[[], None]


@dataclass(slots=True)
class _Lease:
    """An instance that is kept alive, and when its next renewal is due."""

    instance: ServiceInstance
    due_at: float
    failures: int = 0


class LeaseKeeper:
    """The thread that writes; it sleeps until there is work or a renewal is due."""

    def __init__(self, writer: Writer, *, clock: Callable[[], float], rng: random.Random) -> None:
        self._writer = writer
        self._clock = clock
        self._rng = rng
        self._work: queue.SimpleQueue[tuple[Work, Future[None]] | None] = queue.SimpleQueue()
        self._leases: dict[tuple[Service, str], _Lease] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._process = 0

    def submit(self, work: Work) -> Future[None]:
        """Do this in the thread, after all earlier work."""
        future: Future[None] = Future()
        with self._lock:
            if self._thread is None:
                self._process = os.getpid()
                self._thread = threading.Thread(target=self._run, name="lite-leases", daemon=True)
                self._thread.start()
            self._work.put((work, future))
        return future

    def close(self) -> None:
        """Deregister every instance that is kept alive, then end the thread."""
        with self._lock:
            thread, self._thread = self._thread, None
            if thread is None or self._process != os.getpid():
                return
            self._work.put(None)
        thread.join()

    # The next four are given to `submit`, and so run in the thread.

    def register(self, instance: ServiceInstance) -> None:
        """Register the instance and keep it alive."""
        self._writer.put(instance)
        self._leases[_get_key(instance)] = _Lease(instance, self._schedule_renewal())

    def deregister(self, instance: ServiceInstance) -> None:
        """Deregister the instance, also one of another process."""
        self._leases.pop(_get_key(instance), None)
        self._writer.delete(instance)

    def release(self, instance: ServiceInstance) -> None:
        """Renew the instance no more, and leave it registered."""
        self._leases.pop(_get_key(instance), None)

    def renew(self, instance: ServiceInstance) -> None:
        """Renew the instance now; register it again if the registry forgot an own one."""
        lease = self._leases.get(_get_key(instance))
        if lease is None:
            self._writer.renew(instance)
        else:
            self._renew_lease(lease)

    def _run(self) -> None:
        with self._writer.open_connections():
            while (item := self._wait_for_work()) is not None:
                self._perform(*item)
            self._deregister_all()

    def _wait_for_work(self) -> tuple[Work, Future[None]] | None:
        """The next work, after renewals that are due before it; None at the end."""
        while True:
            due_at = min((lease.due_at for lease in self._leases.values()), default=None)
            timeout = None if due_at is None else max(0.0, due_at - self._clock())
            try:
                return self._work.get(timeout=timeout)
            except queue.Empty:
                self._renew_due_leases()

    @staticmethod
    def _perform(work: Work, future: Future[None]) -> None:
        if not future.set_running_or_notify_cancel():
            return
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - it belongs to the caller of `submit`
            future.set_exception(error)
        else:
            future.set_result(None)

    def _renew_due_leases(self) -> None:
        now = self._clock()
        for lease in [lease for lease in self._leases.values() if lease.due_at <= now]:
            try:
                self._renew_lease(lease)
            except Exception as error:  # noqa: BLE001 - one lease must not cost the others theirs
                lease.failures += 1
                lease.due_at = self._clock() + compute_pause(lease.failures, self._rng)
                if lease.failures == 1:
                    logger.warning("%s; retrying until it succeeds", error)

    def _renew_lease(self, lease: _Lease) -> None:
        try:
            self._writer.renew(lease.instance)
        except InstanceNotFoundError:
            logger.info("the registry forgot %s; registering again", lease.instance.instance_id)
            self._writer.put(lease.instance)
        lease.failures = 0
        lease.due_at = self._schedule_renewal()

    def _schedule_renewal(self) -> float:
        return self._clock() + self._writer.ttl_seconds / 3 * self._rng.uniform(0.9, 1.0)

    def _deregister_all(self) -> None:
        for lease in self._leases.values():
            try:
                self._writer.delete(lease.instance)
            except ServiceRegistryError as error:
                logger.warning("%s; the lease will expire", error)
        self._leases.clear()


def _get_key(instance: ServiceInstance) -> tuple[Service, str]:
    return Service.from_instance(instance), instance.instance_id


def compute_pause(failures: int, rng: random.Random) -> float:
    """Seconds until the next attempt: longer with each failure, and different for each client."""
    longest = backoff_seconds(
        failures, initial_seconds=_FIRST_PAUSE_SECONDS, max_seconds=_MAX_PAUSE_SECONDS
    )
    return jittered(longest, "equal", rng.random)
