"""The port to service registries: instances, the required methods, the optional abilities."""

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
    """One running copy of a service, as a registry describes it.

    An empty `cluster_name`, `namespace_id` or `group_name` means the provider's default.

    Attributes:
        weight: share of the traffic relative to the other instances; with 0 it gets no new calls.
        healthy: the registry considers it able to serve calls.
        enabled: false if an operator has taken it out of service.
        ephemeral: its registration expires unless it is renewed.
        metadata: read-only labels; `version`, `lane`, `zone` and `secure` have a meaning.
        instance_id: unique within the service; `ip:port` by default.

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
        if self.ip.startswith("[") and self.ip.endswith("]"):
            # Spring Cloud Alibaba registers IPv6 addresses as they stand in a URL.
            object.__setattr__(self, "ip", self.ip[1:-1])
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
        """Whether it serves HTTPS: metadata `secure` is `true`, as Spring Cloud writes it."""
        return self.metadata.get("secure", "").lower() == "true"

    @property
    def base_url(self) -> str:
        """`http://ip:port`, or `https://ip:port` if it is secure."""
        return f"{'https' if self.secure else 'http'}://{self.address}"

    @property
    def version(self) -> str:
        """The metadata `version`; empty if it is missing."""
        return self.metadata.get("version", "")

    @property
    def lane(self) -> str:
        """The metadata `lane`; empty for the base lane."""
        return self.metadata.get("lane", "")

    @property
    def zone(self) -> str:
        """The metadata `zone`; empty if it is missing."""
        return self.metadata.get("zone", "")


@dataclass(frozen=True, slots=True)
class InstanceQuery:
    """Selects instances of a service; empty fields do not restrict the selection.

    Attributes:
        group_name, namespace_id: where to look; empty means the provider's default.
        clusters: names of clusters; only their instances are selected.
        healthy_only: select only instances that are healthy and enabled.
        metadata: labels that an instance must have, each with this value.
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
        """Whether the instance matches clusters, health and metadata (not group and namespace)."""
        if self.clusters and instance.cluster_name not in self.clusters:
            return False
        if self.healthy_only and not (instance.healthy and instance.enabled):
            return False
        return all(instance.metadata.get(key) == value for key, value in self.metadata.items())


ANY_INSTANCE = InstanceQuery()

InstancesListener = Callable[[Sequence[ServiceInstance]], Awaitable[None] | None]
Unsubscribe = Callable[[], None]


class ServiceRegistry(Protocol):
    """Registers instances of services, and finds those of others.

    A provider keeps the instances it has registered alive until `deregister` or `close`. Use one
    from a single event loop. Failures raise `ServiceRegistryError`.
    """

    async def register(self, instance: ServiceInstance) -> None:
        """Register the instance and keep it alive; registering it again replaces it."""
        ...

    async def deregister(self, instance: ServiceInstance) -> None:
        """Remove the instance; removing a missing one is no error."""
        ...

    async def renew(self, instance: ServiceInstance) -> None:
        """Send one heartbeat now.

        Raises:
            InstanceNotFoundError: the instance is not registered.
        """
        ...

    async def get_instances(
        self, service_name: str, query: InstanceQuery = ANY_INSTANCE
    ) -> Sequence[ServiceInstance]:
        """The present instances; empty for an unknown service."""
        ...

    def watch_instances(
        self,
        service_name: str,
        listener: InstancesListener,
        query: InstanceQuery = ANY_INSTANCE,
    ) -> Unsubscribe:
        """Call the listener once with the present instances, then on each change.

        The listener may be plain or async. It receives the newest state, one call at a time; its
        exceptions are logged. The returned function ends the watch and may be called twice.
        """
        ...

    async def close(self) -> None:
        """Deregister the own instances, end every watch, wait for everything that was started."""
        ...


@runtime_checkable
class ServerAddressed(Protocol):
    """Optional ability of a registry on a server: its address.

    The network interface on the way there has the address at which others reach this process.
    """

    @property
    def server_address(self) -> str:
        """The URL or `host:port` of the server."""
        ...


@runtime_checkable
class RegistrationHandover(Protocol):
    """Optional ability of a registry: another process can take over a registration without a gap."""

    async def hand_over(self, instance: ServiceInstance) -> None:
        """Stop keeping the instance alive, but leave it registered.

        This object does not touch it any more, not even in `close`. The process that takes over
        registers the instance before its lease expires. An unknown instance is no error.
        """
        ...


@runtime_checkable
class ServiceCatalog(Protocol):
    """Optional ability of a registry: list its services."""

    async def list_services(self, *, group_name: str = "", namespace_id: str = "") -> Sequence[str]:
        """The names of all services of a group, sorted."""
        ...
