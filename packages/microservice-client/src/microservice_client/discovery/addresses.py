"""Addresses in the place of a registry: fixed ones, DNS, and several sources one after another."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from urllib.parse import urlsplit

from microservice_core import (
    InstanceQuery,
    InstancesListener,
    InvalidValueError,
    ServiceInstance,
    ServiceRegistryUnavailableError,
    Unsubscribe,
)

from .instance_cache import InstanceSource

__all__ = ("DnsAddresses", "FirstSource", "StaticAddresses")

ANY = InstanceQuery()
_DEFAULT_PORTS = {"http": 80, "https": 443}

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""The IP addresses of a host name; the port is a hint for the resolver."""


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
        self, service_name: str, query: InstanceQuery = ANY, /
    ) -> Sequence[ServiceInstance]:
        """The addresses given for the service."""
        return self._instances.get(service_name, ())

    def watch_instances(
        self, service_name: str, listener: InstancesListener, query: InstanceQuery = ANY, /
    ) -> Unsubscribe:
        """Nothing ever changes, so nothing is told."""
        return lambda: None


async def resolve_host(host: str, port: int) -> Sequence[str]:
    """What the system's resolver says, e.g. one address per pod of a headless Service."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class DnsAddresses:
    """Each address a host name resolves to is an instance; asked anew at every refresh.

    Args:
        hosts: `http://host:port` or `https://host:port` by service name.
        resolve: asks the resolver.

    Raises:
        InvalidValueError: a host that is no such URL.
    """

    def __init__(self, hosts: Mapping[str, str], *, resolve: Resolve = resolve_host) -> None:
        self._hosts = {service: _instance(service, url) for service, url in hosts.items()}
        self._resolve = resolve

    async def get_instances(
        self, service_name: str, query: InstanceQuery = ANY, /
    ) -> Sequence[ServiceInstance]:
        """One instance for each address of the service's host name.

        Raises:
            ServiceRegistryUnavailableError: the name does not resolve.
        """
        host = self._hosts.get(service_name)
        if host is None:
            return ()
        try:
            addresses = await self._resolve(host.ip, host.port)
        except OSError as error:
            raise ServiceRegistryUnavailableError(
                f"{host.ip} does not resolve ({error}); check the name and the resolver",
                provider="dns",
                operation="get_instances",
                target=service_name,
                retryable=True,
            ) from error
        metadata = {**host.metadata, "host": host.ip}
        return [
            ServiceInstance(service_name, address, host.port, metadata=metadata)
            for address in sorted(addresses)
        ]

    def watch_instances(
        self, service_name: str, listener: InstancesListener, query: InstanceQuery = ANY, /
    ) -> Unsubscribe:
        """DNS tells nobody; the snapshot's refresh finds changes."""
        return lambda: None


class FirstSource:
    """Several sources; the first that has instances of a service answers for it.

    `FirstSource(StaticAddresses({"orders": [...]}), registry)` sends `orders` to fixed addresses
    and all else to the registry.
    """

    def __init__(self, *sources: InstanceSource) -> None:
        self._sources = sources

    async def get_instances(
        self, service_name: str, query: InstanceQuery = ANY, /
    ) -> Sequence[ServiceInstance]:
        """The instances of the first source that has any."""
        for source in self._sources:
            if found := await source.get_instances(service_name, query):
                return found
        return ()

    def watch_instances(
        self, service_name: str, listener: InstancesListener, query: InstanceQuery = ANY, /
    ) -> Unsubscribe:
        """Tell what the first source with instances has, whenever any of them changes."""

        async def look_again(_: Sequence[ServiceInstance]) -> None:
            told = listener(await self.get_instances(service_name, query))
            if told is not None:
                await told

        stops = [
            source.watch_instances(service_name, look_again, query) for source in self._sources
        ]

        def stop() -> None:
            for one in stops:
                one()

        return stop


def _instance(service: str, url: str) -> ServiceInstance:
    rule = "http(s)://host:port without a path"
    try:
        parts = urlsplit(url)
        port = parts.port or _DEFAULT_PORTS.get(parts.scheme, 0)
    except ValueError as error:
        raise InvalidValueError(f"address of {service!r}", url, rule) from error
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname or parts.path.strip("/"):
        raise InvalidValueError(f"address of {service!r}", url, rule)
    metadata = {"secure": "true"} if parts.scheme == "https" else {}
    return ServiceInstance(service, parts.hostname, port, metadata=metadata)
