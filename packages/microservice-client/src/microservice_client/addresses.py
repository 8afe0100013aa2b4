"""Fixed addresses in the place of a registry: for scripts, tests and the first five minutes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from microservice_core import (
    InstanceQuery,
    InstancesListener,
    InvalidValueError,
    ServiceInstance,
    Unsubscribe,
)

__all__ = ("StaticAddresses",)

ANY = InstanceQuery()
_DEFAULT_PORTS = {"http": 80, "https": 443}


class StaticAddresses:
    """Instances that never change, given as base URLs by service name.

    Raises:
        InvalidValueError: an address that is no `http://host:port` or `https://host:port`.
    """

    def __init__(self, addresses: Mapping[str, Sequence[str]]) -> None:
        self._instances = {
            service: tuple(_instance(service, url) for url in urls)
            for service, urls in addresses.items()
        }

    async def get_instances(
        self, service_name: str, query: InstanceQuery = ANY
    ) -> Sequence[ServiceInstance]:
        """The addresses given for the service."""
        return self._instances.get(service_name, ())

    def watch_instances(
        self, service_name: str, listener: InstancesListener, query: InstanceQuery = ANY
    ) -> Unsubscribe:
        """Nothing ever changes, so nothing is told."""
        return lambda: None


def _instance(service: str, url: str) -> ServiceInstance:
    parts = urlsplit(url)
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname or parts.path.strip("/"):
        raise InvalidValueError(
            f"address of {service!r}", url, "http(s)://host:port without a path"
        )
    metadata = {"secure": "true"} if parts.scheme == "https" else {}
    port = parts.port or _DEFAULT_PORTS[parts.scheme]
    return ServiceInstance(service, parts.hostname, port, metadata=metadata)
