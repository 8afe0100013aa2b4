"""Sources of instances without a registry: fixed addresses, DNS, and several sources in order."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack
from urllib.parse import urlsplit

from microservice_core import (
    InstanceQuery,
    InstancesListener,
    InvalidValueError,
    ServiceInstance,
    ServiceRegistryUnavailableError,
    Unsubscribe,
)

from .instance_source import InstanceSource

__all__ = ("DnsAddresses", "FirstSource", "StaticAddresses")

_ANY = InstanceQuery()
_DEFAULT_PORTS = {"http": 80, "https": 443}

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""Returns the IP addresses of a host name; the port is a hint for the resolver."""


class StaticAddresses:
    """Fixed instances, given as base URLs by service name.

    Args:
        addresses: `http://host:port` or `https://host:port` of each instance, by service name.

    Raises:
        InvalidValueError: an address is no such URL.

    Attributes:
        confirms_empty_lists: an empty list is true at once, as the addresses never change.
    """

    confirms_empty_lists = True

    def __init__(self, addresses: Mapping[str, Sequence[str]]) -> None:
        self._instances = {
            service: tuple(_parse_instance(service, url) for url in _require_list(service, urls))
            for service, urls in addresses.items()
        }

    async def get_instances(
        self, service_name: str, query: InstanceQuery = _ANY, /
    ) -> Sequence[ServiceInstance]:
        """Return the instances of the service."""
        return self._instances.get(service_name, ())

    def watch_instances(
        self, service_name: str, listener: InstancesListener, query: InstanceQuery = _ANY, /
    ) -> Unsubscribe:
        """Do nothing, as the addresses never change."""
        return lambda: None


async def resolve_host(host: str, port: int) -> Sequence[str]:
    """Resolve by the system's resolver, e.g. to one address per pod of a headless Service."""
    infos = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in infos))


class DnsAddresses:
    """Each address that a host name resolves to is an instance; resolved at every refresh.

    Args:
        hosts: `http://host:port` or `https://host:port` by service name.
        resolve: resolves a host name.

    Raises:
        InvalidValueError: a host is no such URL.
    """

    def __init__(self, hosts: Mapping[str, str], *, resolve: Resolve = resolve_host) -> None:
        self._hosts = {service: _parse_instance(service, url) for service, url in hosts.items()}
        self._resolve = resolve

    async def get_instances(
        self, service_name: str, query: InstanceQuery = _ANY, /
    ) -> Sequence[ServiceInstance]:
        """Return one instance for each address of the service's host name.

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
        self, service_name: str, listener: InstancesListener, query: InstanceQuery = _ANY, /
    ) -> Unsubscribe:
        """Do nothing: DNS reports no changes; the cache's refresh finds them."""
        return lambda: None


class FirstSource:
    """Several sources in order; the first that has instances of a service is used for it.

    `FirstSource(StaticAddresses({"orders": [...]}), registry)` sends `orders` to fixed addresses
    and takes all other services from the registry.
    """

    def __init__(self, *sources: InstanceSource) -> None:
        self._sources = sources

    @property
    def confirms_empty_lists(self) -> bool:
        """Whether an empty list is true at once: every source says so of its own."""
        return all(getattr(source, "confirms_empty_lists", False) for source in self._sources)

    async def get_instances(
        self, service_name: str, query: InstanceQuery = _ANY, /
    ) -> Sequence[ServiceInstance]:
        """Return the instances of the first source that has any."""
        for source in self._sources:
            if instances := await source.get_instances(service_name, query):
                return instances
        return ()

    def watch_instances(
        self, service_name: str, listener: InstancesListener, query: InstanceQuery = _ANY, /
    ) -> Unsubscribe:
        """Notify of the first source's instances whenever any source changes."""

        async def notify(_: Sequence[ServiceInstance]) -> None:
            result = listener(await self.get_instances(service_name, query))
            if result is not None:
                await result

        with ExitStack() as watches:
            for source in self._sources:
                watches.callback(source.watch_instances(service_name, notify, query))
            return watches.pop_all().close  # only now: one that fails ends those before it


def _require_list(service: str, urls: Sequence[str]) -> Sequence[str]:
    if isinstance(urls, str | bytes):
        rule = "a list of addresses, even of one: [...]"
        raise InvalidValueError(f"addresses of {service!r}", urls, rule)
    return urls


def _parse_instance(service: str, url: str) -> ServiceInstance:
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
