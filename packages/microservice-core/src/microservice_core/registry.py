"""What a service registry is: instances, the port every provider satisfies, the optional catalog."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from .errors import InvalidValueError
from .metadata import Metadata

__all__ = (
    "InstanceQuery",
    "InstancesListener",
    "RegistrationHandover",
    "ServerAddressed",
    "ServiceCatalog",
    "ServiceInstance",
    "ServiceRegistry",
    "Unsubscribe",
)


@dataclass(frozen=True, slots=True)
class ServiceInstance:
    """One running copy of a service, as a registry knows it.

    Empty `cluster_name`, `namespace_id` and `group_name` mean the provider's default.

    Attributes:
        weight: share of the traffic relative to its siblings; 0 takes no new calls.
        healthy: the registry believes it can answer.
        enabled: an operator has not taken it out.
        ephemeral: it lives only as long as it is renewed.
        metadata: read-only labels; `version`, `lane`, `zone` and `secure` have a meaning.
        instance_id: unique within the service; `ip:port` when not given.

    Raises:
        InvalidValueError: an empty name or ip, a port outside 0..65535, a weight that is
            negative, infinite or not a number.
    """

    service_name: str
    ip: str
    port: int
    weight: float = 1.0
    healthy: bool = True
    enabled: bool = True
    ephemeral: bool = True
    metadata: Mapping[str, str] = field(default_factory=Metadata, hash=False)
    cluster_name: str = ""
    namespace_id: str = ""
    group_name: str = ""
    instance_id: str = ""

    def __post_init__(self) -> None:
        if not self.service_name:
            raise InvalidValueError("service_name", self.service_name, "a non-empty name")
        if not self.ip:
            raise InvalidValueError("ip", self.ip, "a non-empty address")
        if not 0 <= self.port <= 65535:
            raise InvalidValueError("port", self.port, "a number from 0 to 65535")
        if not (self.weight >= 0 and math.isfinite(self.weight)):
            raise InvalidValueError("weight", self.weight, "a finite number of at least 0")
        if type(self.metadata) is not Metadata:
            object.__setattr__(self, "metadata", Metadata(self.metadata))
        if not self.instance_id:
            object.__setattr__(self, "instance_id", self.address)

    @property
    def address(self) -> str:
        """`ip:port`, with an IPv6 address in brackets."""
        return f"[{self.ip}]:{self.port}" if ":" in self.ip else f"{self.ip}:{self.port}"

    @property
    def secure(self) -> bool:
        """Whether it speaks https: metadata `secure` is `true`, as Spring Cloud writes it."""
        return self.metadata.get("secure", "").lower() == "true"

    @property
    def base_url(self) -> str:
        """`http://ip:port`, or `https://` when secure."""
        return f"{'https' if self.secure else 'http'}://{self.address}"

    @property
    def version(self) -> str:
        """Metadata `version`, or empty."""
        return self.metadata.get("version", "")

    @property
    def lane(self) -> str:
        """Metadata `lane`, or empty for the base lane."""
        return self.metadata.get("lane", "")

    @property
    def zone(self) -> str:
        """Metadata `zone`, or empty."""
        return self.metadata.get("zone", "")


@dataclass(frozen=True, slots=True)
class InstanceQuery:
    """Which instances of a service are wanted; empty fields do not restrict.

    Attributes:
        group_name, namespace_id: where to look; empty = the provider's default.
        clusters: only these clusters.
        healthy_only: only those that are healthy and enabled.
        metadata: each pair has to be present.
    """

    group_name: str = ""
    namespace_id: str = ""
    clusters: tuple[str, ...] = ()
    healthy_only: bool = False
    metadata: Mapping[str, str] = field(default_factory=Metadata, hash=False)

    def __post_init__(self) -> None:
        if type(self.clusters) is not tuple:
            object.__setattr__(self, "clusters", tuple(self.clusters))
        if type(self.metadata) is not Metadata:
            object.__setattr__(self, "metadata", Metadata(self.metadata))

    def matches(self, instance: ServiceInstance) -> bool:
        """Whether the instance passes clusters, health and metadata (not group and namespace)."""
        if self.clusters and instance.cluster_name not in self.clusters:
            return False
        if self.healthy_only and not (instance.healthy and instance.enabled):
            return False
        return all(instance.metadata.get(key) == value for key, value in self.metadata.items())


ANY_INSTANCE = InstanceQuery()

InstancesListener = Callable[[Sequence[ServiceInstance]], Awaitable[None] | None]
Unsubscribe = Callable[[], None]


class ServiceRegistry(Protocol):
    """Where instances announce themselves and are found.

    A provider keeps what it registered alive until `deregister` or `close`. It is used from one
    event loop. Failures raise `ServiceRegistryError`.
    """

    async def register(self, instance: ServiceInstance) -> None:
        """Announce the instance and keep it alive; registering it again replaces it."""
        ...

    async def deregister(self, instance: ServiceInstance) -> None:
        """Take the instance out; one that is not there is no error."""
        ...

    async def renew(self, instance: ServiceInstance) -> None:
        """Force one beat now.

        Raises:
            InstanceNotFoundError: the registry does not know it.
        """
        ...

    async def get_instances(
        self, service_name: str, query: InstanceQuery = ANY_INSTANCE
    ) -> Sequence[ServiceInstance]:
        """The instances now; empty for a service nobody registered."""
        ...

    def watch_instances(
        self,
        service_name: str,
        listener: InstancesListener,
        query: InstanceQuery = ANY_INSTANCE,
    ) -> Unsubscribe:
        """Call the listener once with the present instances, then on each change.

        The listener may be plain or async, sees the newest state, and never runs twice at once;
        one that raises is logged. The returned callable ends the watch and may be called twice.
        """
        ...

    async def close(self) -> None:
        """Deregister what was registered, end every watch, join what was started."""
        ...


@runtime_checkable
class ServerAddressed(Protocol):
    """A registry on a server of its own; the way there tells which address others reach us at."""

    @property
    def server_address(self) -> str:
        """The URL or `host:port` of the server."""
        ...


@runtime_checkable
class RegistrationHandover(Protocol):
    """A registry whose registrations another process can go on with, without a gap."""

    async def hand_over(self, instance: ServiceInstance) -> None:
        """Stop keeping the instance alive, without taking it out.

        Nothing of this object touches it any more, `close` neither. Who goes on with it registers
        it within its lease. One that is not kept here is no error.
        """
        ...


@runtime_checkable
class ServiceCatalog(Protocol):
    """A registry that can list its services."""

    async def list_services(self, *, group_name: str = "", namespace_id: str = "") -> Sequence[str]:
        """The names of all services of a group, sorted."""
        ...
