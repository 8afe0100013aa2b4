"""Register and list instances: operations without I/O."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from . import _names as names
from ._steps import Clock, Operation, Request
from .errors import NoInstanceError, ServerError, ServerUnavailableError, UnexpectedAnswerError
from .models import EMPTY, Instance, InstanceList, Registration

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping, Sequence

    from ._session import Session

__all__ = ("NamingOperations", "ServiceKey", "checked_registration")

INSTANCE = "/v3/client/ns/instance"
MOST_SERVICES_KEPT = 1024


@dataclass(frozen=True, slots=True)
class ServiceKey:
    """Which service, and which of its clusters; none named = what the server takes as default."""

    namespace: str
    group: str
    service: str
    clusters: tuple[str, ...] = ()

    @classmethod
    def checked(
        cls, service: str, group: str, namespace: str, clusters: Sequence[str] = ()
    ) -> ServiceKey:
        """A key whose parts Nacos would accept.

        Raises:
            InvalidArgumentError: one of them is not allowed.
        """
        return cls(
            names.namespace(namespace),
            names.group(group),
            names.service(service),
            names.clusters(clusters),
        )

    def parameters(self) -> dict[str, object]:
        """As the API wants them."""
        return {
            "serviceName": self.service,
            "groupName": self.group,
            "namespaceId": self.namespace,
            "clusterName": ",".join(self.clusters) or None,
        }


class NamingOperations:
    """What can be asked about instances through the client API."""

    def __init__(self, session: Session, *, clock: Clock, rng: random.Random) -> None:
        self._session = session
        self._clock = clock
        self._rng = rng
        self._last_good: OrderedDict[ServiceKey, tuple[float, tuple[Instance, ...]]] = OrderedDict()

    def register(
        self, registration: Registration, *, timeout_seconds: float | None = None
    ) -> Operation[None]:
        """Announce the instance with all its data; again = replace."""
        form = {
            **identity(registration),
            "weight": registration.weight,
            "healthy": True,
            "enabled": registration.enabled,
            "metadata": names.metadata_text(registration.metadata),
            "ephemeral": registration.ephemeral,
        }
        request = Request("POST", INSTANCE, form=form)
        yield from self._session.call(request, timeout_seconds=timeout_seconds)

    def beat(
        self, registration: Registration, *, timeout_seconds: float | None = None
    ) -> Operation[None]:
        """Tell the server that the instance lives.

        Raises:
            InstanceNotFound: the server does not know it: register it again.
        """
        form = {**identity(registration), "heartBeat": True, "ephemeral": True}
        request = Request("POST", INSTANCE, form=form)
        yield from self._session.call(request, timeout_seconds=timeout_seconds)

    def deregister(
        self, registration: Registration, *, timeout_seconds: float | None = None
    ) -> Operation[None]:
        """Take the instance out; one that is not there is no error."""
        query = {**identity(registration), "ephemeral": registration.ephemeral}
        request = Request("DELETE", INSTANCE, query=query)
        yield from self._session.call(request, timeout_seconds=timeout_seconds)

    def instances(self, key: ServiceKey) -> Operation[tuple[Instance, ...]]:
        """The enabled instances, sorted by address; empty for a service nobody registered."""
        request = Request("GET", f"{INSTANCE}/list", query=key.parameters())
        data = yield from self._session.call(request)
        if not isinstance(data, list):
            raise UnexpectedAnswerError(
                request.operation, status=200, detail="data is not a list of instances"
            )
        found = (instance_from(key, entry) for entry in data)
        return tuple(sorted(found, key=lambda i: (i.ip, i.port, i.cluster)))

    def listed(self, key: ServiceKey) -> Operation[InstanceList]:
        """The instances now, or while no server answers the last good list, marked stale."""
        try:
            found = yield from self.instances(key)
        except (ServerUnavailableError, ServerError):
            if key not in self._last_good:
                raise
            since, found = self._last_good[key]
            age = self._clock() - since
            return InstanceList(
                key.service, key.group, key.namespace, found, stale=True, age_seconds=age
            )
        self._last_good[key] = (self._clock(), found)
        self._last_good.move_to_end(key)
        while len(self._last_good) > MOST_SERVICES_KEPT:
            self._last_good.popitem(last=False)
        return InstanceList(key.service, key.group, key.namespace, found)

    def pick(self, instances: Sequence[Instance]) -> Instance:
        """One usable instance, by weight.

        Raises:
            NoInstanceError: none is healthy, enabled and of some weight.
        """
        usable = [each for each in instances if each.usable]
        if not usable:
            raise NoInstanceError(
                f"none of {len(instances)} instances is healthy, enabled and of some weight; "
                "check that the service runs and is registered in this group and cluster"
            )
        return self._rng.choices(usable, [each.weight for each in usable])[0]


def identity(registration: Registration) -> dict[str, object]:
    """What tells the server which instance is meant."""
    return {
        "serviceName": registration.service,
        "groupName": registration.group,
        "namespaceId": registration.namespace,
        "clusterName": registration.cluster,
        "ip": registration.ip,
        "port": registration.port,
    }


def instance_from(key: ServiceKey, entry: Mapping[str, Any]) -> Instance:
    """One instance of the list; `GROUP@@name` is taken apart."""
    group, service = names.bare_service(entry.get("serviceName") or key.service)
    labels = entry.get("metadata")
    return Instance(
        service=service,
        ip=entry["ip"],
        port=entry["port"],
        weight=float(entry.get("weight", 1.0)),
        healthy=bool(entry.get("healthy", True)),
        enabled=bool(entry.get("enabled", True)),
        ephemeral=bool(entry.get("ephemeral", True)),
        metadata=MappingProxyType(dict(labels)) if labels else EMPTY,
        cluster=entry.get("clusterName") or "DEFAULT",
        group=group or key.group,
        namespace=key.namespace,
    )


def checked_registration(
    service: str,
    ip: str,
    port: int,
    *,
    group: str,
    namespace: str,
    cluster: str,
    weight: float = 1.0,
    enabled: bool = True,
    ephemeral: bool = True,
    metadata: Mapping[str, str] | None = None,
) -> Registration:
    """A registration that Nacos would accept.

    Raises:
        InvalidArgumentError: names the part and the rule.
    """
    return Registration(
        service=names.service(service),
        ip=names.ip(ip),
        port=names.port(port),
        weight=names.weight(weight),
        enabled=enabled,
        ephemeral=ephemeral,
        metadata=MappingProxyType(names.metadata(metadata)),
        cluster=names.cluster(cluster),
        group=names.group(group),
        namespace=names.namespace(namespace),
    )
