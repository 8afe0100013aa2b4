"""Register and list instances: operations without I/O."""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from ._keys import ServiceKey
from ._session import Session
from ._steps import Clock, Operation, Request
from ._validation import (
    decode_service_name,
    encode_metadata,
    strip_brackets,
    validate_cluster,
    validate_flag,
    validate_group,
    validate_ip,
    validate_metadata,
    validate_namespace,
    validate_port,
    validate_service,
    validate_weight,
)
from .errors import NoInstanceError, ServerError, ServerUnavailableError, UnexpectedAnswerError
from .models import EMPTY_METADATA, Instance, InstanceList, Registration

__all__ = (
    "NamingOperations",
    "PersistentRegistrations",
    "parse_instance",
    "to_identity",
    "validate_registration",
)

_INSTANCE = "/v3/client/ns/instance"
_MAX_LISTS_KEPT = 1024
_MAX_PERSISTENT_KEPT = 10_000


class NamingOperations:
    """Registers, lists and picks instances through the client API."""

    def __init__(self, session: Session, *, clock: Clock, rng: random.Random) -> None:
        self._session = session
        self._clock = clock
        self._rng = rng
        self._last_lists: OrderedDict[ServiceKey, tuple[float, tuple[Instance, ...]]] = (
            OrderedDict()
        )

    def register(
        self, registration: Registration, *, timeout_seconds: float | None = None
    ) -> Operation[None]:
        """Register the instance with all its data; doing it again replaces the data."""
        form = {
            **to_identity(registration),
            "weight": registration.weight,
            "healthy": True,
            "enabled": registration.enabled,
            "metadata": encode_metadata(registration.metadata),
            "ephemeral": registration.ephemeral,
        }
        request = Request("POST", _INSTANCE, form=form)
        yield from self._session.call(request, timeout_seconds=timeout_seconds)

    def beat(
        self, registration: Registration, *, timeout_seconds: float | None = None
    ) -> Operation[None]:
        """Send one heartbeat of the instance.

        Raises:
            InstanceNotFound: the server does not know it: register it again.
        """
        form = {**to_identity(registration), "heartBeat": True, "ephemeral": True}
        request = Request("POST", _INSTANCE, form=form)
        yield from self._session.call(request, timeout_seconds=timeout_seconds)

    def deregister(
        self, registration: Registration, *, timeout_seconds: float | None = None
    ) -> Operation[None]:
        """Deregister the instance; one that the server does not know is no error."""
        query = {**to_identity(registration), "ephemeral": registration.ephemeral}
        request = Request("DELETE", _INSTANCE, query=query)
        yield from self._session.call(request, timeout_seconds=timeout_seconds)

    def list_instances(self, key: ServiceKey) -> Operation[tuple[Instance, ...]]:
        """The enabled instances, sorted by address; empty for a service without any."""
        request = Request("GET", f"{_INSTANCE}/list", query=key.to_parameters())
        data = yield from self._session.call(request)
        if not isinstance(data, list):
            raise UnexpectedAnswerError(
                request.operation, status=200, detail="data is not a list of instances"
            )
        instances = (parse_instance(key, entry, request.operation) for entry in data)
        return tuple(sorted(instances, key=lambda each: (each.ip, each.port, each.cluster)))

    def list_or_last_good(self, key: ServiceKey) -> Operation[InstanceList]:
        """The instances now; while no server responds, the last good list, marked stale.

        Raises:
            ServerUnavailableError: no server responds, and there is no earlier list.
        """
        try:
            instances = yield from self.list_instances(key)
        except (ServerUnavailableError, ServerError):
            if key not in self._last_lists:
                raise
            read_at, instances = self._last_lists[key]
            age = self._clock() - read_at
            return InstanceList(
                key.service, key.group, key.namespace, instances, stale=True, age_seconds=age
            )
        self._last_lists[key] = (self._clock(), instances)
        self._last_lists.move_to_end(key)
        while len(self._last_lists) > _MAX_LISTS_KEPT:
            self._last_lists.popitem(last=False)
        return InstanceList(key.service, key.group, key.namespace, instances)

    def pick(self, instances: Sequence[Instance]) -> Instance:
        """One usable instance, at random by weight.

        Raises:
            NoInstanceError: none is healthy, enabled and of a weight above 0.
        """
        usable = [each for each in instances if each.usable]
        if not usable:
            raise NoInstanceError(
                f"none of {len(instances)} instances is healthy, enabled and of a weight above 0; "
                "check that the service runs and is registered in this group and cluster"
            )
        return self._rng.choices(usable, [each.weight for each in usable])[0]


class PersistentRegistrations:
    """The persistent instances that a client registered, so that it can update and deregister them.

    The oldest of more than 10,000 is forgotten: it is then like one of another client.
    """

    def __init__(self) -> None:
        self._registrations: OrderedDict[tuple[str, str, str, str, int], Registration] = (
            OrderedDict()
        )

    def record(self, registration: Registration) -> None:
        """Remember it if it is persistent; one of the same address that was is replaced."""
        self._registrations.pop(registration.key, None)
        if not registration.ephemeral:
            self._registrations[registration.key] = registration
        while len(self._registrations) > _MAX_PERSISTENT_KEPT:
            self._registrations.popitem(last=False)

    def find(self, registration: Registration) -> Registration | None:
        """What was registered at this address; None when nothing persistent was."""
        return self._registrations.get(registration.key)

    def forget(self, registration: Registration) -> None:
        """It was deregistered."""
        self._registrations.pop(registration.key, None)


def to_identity(registration: Registration) -> dict[str, object]:
    """The request parameters that identify the instance."""
    return {
        "serviceName": registration.service,
        "groupName": registration.group,
        "namespaceId": registration.namespace,
        "clusterName": registration.cluster,
        "ip": registration.ip,
        "port": registration.port,
    }


def validate_registration(registration: Registration) -> Registration:
    """The same registration with every part as Nacos accepts it.

    Raises:
        InvalidArgumentError: a part is illegal; the error names it and the rule.
    """
    return replace(
        registration,
        service=validate_service(registration.service),
        ip=validate_ip(registration.ip),
        port=validate_port(registration.port),
        weight=validate_weight(registration.weight),
        enabled=validate_flag("enabled", registration.enabled),
        ephemeral=validate_flag("ephemeral", registration.ephemeral),
        metadata=MappingProxyType(validate_metadata(registration.metadata)),
        cluster=validate_cluster(registration.cluster),
        group=validate_group(registration.group),
        namespace=validate_namespace(registration.namespace),
    )


def parse_instance(key: ServiceKey, entry: Any, operation: str) -> Instance:
    """One instance of a server's list.

    Raises:
        UnexpectedAnswerError: the entry has another shape.
    """
    try:
        return _parse_instance(key, entry)
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        detail = f"an entry of the list is not an instance ({type(error).__name__})"
        raise UnexpectedAnswerError(operation, status=200, detail=detail) from None


def _parse_instance(key: ServiceKey, entry: Mapping[str, Any]) -> Instance:
    group, service = decode_service_name(entry.get("serviceName") or key.service)
    labels = entry.get("metadata")
    return Instance(
        service=service,
        ip=strip_brackets(entry["ip"]),
        port=entry["port"],
        weight=float(entry.get("weight", 1.0)),
        healthy=bool(entry.get("healthy", True)),
        enabled=bool(entry.get("enabled", True)),
        ephemeral=bool(entry.get("ephemeral", True)),
        metadata=MappingProxyType(dict(labels)) if labels else EMPTY_METADATA,
        cluster=entry.get("clusterName") or "DEFAULT",
        group=group or key.group,
        namespace=key.namespace,
    )
