"""Keeps what this process registered alive, from a thread of its own. To KEEP.

A busy event loop then costs no lease, and the lock keeps the order: a late beat cannot bring back
what was deregistered.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable

from microservice_core import ServiceInstance, ServiceRegistryError

from .errors import as_registry_errors, not_registered, target_of
from .json_folder import JsonFolder, Service, service_of

__all__ = ("LeaseKeeper",)

logger = logging.getLogger(__name__)

BEATS_PER_TTL = 3

Wait = Callable[[threading.Event, float], bool]


class LeaseKeeper:
    """Registers, renews and deregisters; every call may block.

    Args:
        wait: waits for the event, at most that many seconds; whether it is set.
    """

    def __init__(
        self, engine: JsonFolder, ttl_seconds: float, *, wait: Wait = threading.Event.wait
    ) -> None:
        self._engine = engine
        self._ttl_seconds = ttl_seconds
        self._wait = wait
        self._held: dict[tuple[Service, str], ServiceInstance] = {}
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._pid = os.getpid()
        self._failing = False

    def register(self, instance: ServiceInstance) -> None:
        """Announce the instance, and keep it alive from now on."""
        with self._lock:
            self._put(instance, "register")
            self._held[_key(instance)] = instance
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="leases", daemon=True)
                self._thread.start()

    def deregister(self, instance: ServiceInstance) -> None:
        """Take the instance out; nothing brings it back."""
        with self._lock:
            self._held.pop(_key(instance), None)
            self._remove(instance)

    def renew(self, instance: ServiceInstance) -> None:
        """One beat now; what this object holds is registered again when it was forgotten.

        Raises:
            InstanceNotFoundError: nobody registered it.
        """
        with self._lock:
            held = self._held.get(_key(instance))
            if self._beat(instance):
                return
            if held is None:
                raise not_registered(instance)
            self._put(held, "renew")

    def close(self) -> None:
        """Deregister everything held, end the thread; does nothing in a forked child."""
        if self._pid != os.getpid():
            return
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
        with self._lock:
            held, self._held = list(self._held.values()), {}
            for instance in held:
                try:
                    self._remove(instance)
                except ServiceRegistryError as error:
                    logger.warning("%s; its lease ends by itself", error)

    def _run(self) -> None:
        while not self._wait(self._ended, self._ttl_seconds / BEATS_PER_TTL):
            for key in list(self._held):
                self._keep(key)

    def _keep(self, key: tuple[Service, str]) -> None:
        with self._lock:
            instance = self._held.get(key)
            if instance is None:
                return
            try:
                if not self._beat(instance):
                    self._put(instance, "renew")
            except ServiceRegistryError as error:
                if not self._failing:
                    logger.warning("%s; trying again until it can be told", error)
                self._failing = True
            else:
                self._failing = False

    def _put(self, instance: ServiceInstance, operation: str) -> None:
        with as_registry_errors(operation, target_of(instance)):
            self._engine.put(instance, self._ttl_seconds)

    def _beat(self, instance: ServiceInstance) -> bool:
        with as_registry_errors("renew", target_of(instance)):
            return self._engine.beat(instance)

    def _remove(self, instance: ServiceInstance) -> None:
        with as_registry_errors("deregister", target_of(instance)):
            self._engine.remove(instance)


def _key(instance: ServiceInstance) -> tuple[Service, str]:
    return service_of(instance), instance.instance_id
