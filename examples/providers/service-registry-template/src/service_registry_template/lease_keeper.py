"""Renews what this process registered, in its own thread. To KEEP.

A busy event loop then costs no lease, and the lock keeps the order: a late heartbeat cannot bring
back what was deregistered.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable

from microservice_core import ServiceInstance, ServiceRegistryError

from .errors import create_not_registered_error, describe_instance, translate_engine_errors
from .json_folder import JsonFolder, Service, service_of

__all__ = ("LeaseKeeper",)

logger = logging.getLogger(__name__)

BEATS_PER_TTL = 3

Wait = Callable[[threading.Event, float], bool]


class LeaseKeeper:
    """Registers, renews and deregisters; every call may block.

    Args:
        wait: waits for the event, at most this many seconds; returns whether it is set.
    """

    def __init__(
        self, engine: JsonFolder, ttl_seconds: float, *, wait: Wait = threading.Event.wait
    ) -> None:
        self._engine = engine
        self._ttl_seconds = ttl_seconds
        self._wait = wait
        self._registered: dict[tuple[Service, str], ServiceInstance] = {}
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None
        self._pid = os.getpid()
        self._failing = False

    def register(self, instance: ServiceInstance) -> None:
        """Register the instance, and renew it from now on."""
        with self._lock:
            self._write(instance, "register")
            self._registered[_key_of(instance)] = instance
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="leases", daemon=True)
                self._thread.start()

    def deregister(self, instance: ServiceInstance) -> None:
        """Deregister the instance; no later heartbeat brings it back."""
        with self._lock:
            self._registered.pop(_key_of(instance), None)
            self._remove(instance)

    def renew(self, instance: ServiceInstance) -> None:
        """Send one heartbeat now; an instance of this object that was lost is registered again.

        Raises:
            InstanceNotFoundError: it is not registered.
        """
        with self._lock:
            registered = self._registered.get(_key_of(instance))
            if self._send_heartbeat(instance):
                return
            if registered is None:
                raise create_not_registered_error(instance)
            self._write(registered, "renew")

    def close(self) -> None:
        """Deregister every instance, end the thread; does nothing in a forked child."""
        if self._pid != os.getpid():
            return
        self._closed.set()
        if self._thread is not None:
            self._thread.join()
        with self._lock:
            instances, self._registered = list(self._registered.values()), {}
            for instance in instances:
                try:
                    self._remove(instance)
                except ServiceRegistryError as error:
                    logger.warning("%s; its lease will expire", error)

    def _run(self) -> None:
        while not self._wait(self._closed, self._ttl_seconds / BEATS_PER_TTL):
            for key in list(self._registered):
                self._renew(key)

    def _renew(self, key: tuple[Service, str]) -> None:
        with self._lock:
            instance = self._registered.get(key)
            if instance is None:
                return
            try:
                if not self._send_heartbeat(instance):
                    self._write(instance, "renew")
            except ServiceRegistryError as error:
                if not self._failing:
                    logger.warning("%s; trying again", error)
                self._failing = True
            else:
                self._failing = False

    def _write(self, instance: ServiceInstance, operation: str) -> None:
        with translate_engine_errors(operation, describe_instance(instance)):
            self._engine.write(instance, self._ttl_seconds)

    def _send_heartbeat(self, instance: ServiceInstance) -> bool:
        with translate_engine_errors("renew", describe_instance(instance)):
            return self._engine.beat(instance)

    def _remove(self, instance: ServiceInstance) -> None:
        with translate_engine_errors("deregister", describe_instance(instance)):
            self._engine.remove(instance)


def _key_of(instance: ServiceInstance) -> tuple[Service, str]:
    return service_of(instance), instance.instance_id
