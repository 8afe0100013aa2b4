"""Connections to instances: a pool for each, with its service's limits and TLS."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Collection
from importlib.util import find_spec
from typing import Literal

import httpx

from microservice_client.policy import ServicePolicy, TlsConfig
from microservice_core import MissingDependencyError, ServiceInstance

from .cancellation import CancelSafeTransport

__all__ = ("ConnectionLayer", "Connections", "Pool", "PoolMaker")

ConnectionLayer = Literal["auto", "httpx", "aiohttp"]

PoolMaker = Callable[[ServicePolicy, ssl.SSLContext], httpx.AsyncBaseTransport]
"""Makes the connections to one instance."""


class Pool:
    """The connections to one instance; closed when it was retired and the last call is over."""

    __slots__ = ("_closing", "active", "retired", "transport")

    def __init__(
        self, transport: httpx.AsyncBaseTransport, closing: Callable[[Pool], None]
    ) -> None:
        self.transport = transport
        self.active = 0
        self.retired = False
        self._closing = closing

    def enter(self) -> None:
        """A call is made on it."""
        self.active += 1

    def leave(self) -> None:
        """That call is over, its response's body included."""
        self.active -= 1
        if self.retired and not self.active:
            self._closing(self)

    def retire(self) -> None:
        """No call is to be made on it any more."""
        if not self.retired:
            self.retired = True
            if not self.active:
                self._closing(self)


class Connections:
    """Finds or opens the pool of an instance.

    Args:
        transport: carries every call when given; nothing is pooled here then.
        layer: what makes connections: httpx's own, or aiohttp (extra `fast`). `auto` takes aiohttp
            when it is installed.

    Raises:
        MissingDependencyError: `layer` is `aiohttp`, which is not installed.
    """

    def __init__(
        self, transport: httpx.AsyncBaseTransport | None, *, layer: ConnectionLayer = "auto"
    ) -> None:
        if isinstance(transport, httpx.AsyncHTTPTransport):
            transport = CancelSafeTransport(transport)
        self._shared = Pool(transport, self._close_soon) if transport is not None else None
        self._make = pool_maker(layer) if transport is None else httpx_pool
        self._pools: dict[tuple[str, str], Pool] = {}
        self._contexts: dict[TlsConfig, ssl.SSLContext] = {}
        self._plain = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # for those who speak no TLS
        self._closings: set[asyncio.Task[None]] = set()

    @property
    def open_to(self) -> frozenset[tuple[str, str]]:
        """Service and base URL of each instance that has a pool."""
        return frozenset(self._pools)

    def pool(self, policy: ServicePolicy, instance: ServiceInstance) -> Pool:
        """The pool of the instance."""
        if self._shared is not None:
            return self._shared
        key = (instance.service_name, instance.base_url)
        found = self._pools.get(key)
        if found is None:
            tls = self._context(policy.tls) if instance.secure else self._plain
            make = httpx_pool if policy.http2 else self._make
            found = self._pools[key] = Pool(make(policy, tls), self._close_soon)
        return found

    def keep_only(self, service: str, base_urls: Collection[str]) -> None:
        """Retire the pools of the service's instances that are no more."""
        for key in [key for key in self._pools if key[0] == service and key[1] not in base_urls]:
            self._pools.pop(key).retire()

    async def aclose(self) -> None:
        """Close every connection, those of calls in flight too."""
        pools = list(self._pools.values())
        self._pools.clear()
        if self._shared is not None:
            pools.append(self._shared)
        for task in list(self._closings):
            await task
        for pool in pools:
            await pool.transport.aclose()

    def _context(self, tls: TlsConfig) -> ssl.SSLContext:
        found = self._contexts.get(tls)
        if found is None:
            found = self._contexts[tls] = _ssl_context(tls)
        return found

    def _close_soon(self, pool: Pool) -> None:
        task = asyncio.get_running_loop().create_task(pool.transport.aclose())
        self._closings.add(task)
        task.add_done_callback(self._closings.discard)


def pool_maker(layer: ConnectionLayer) -> PoolMaker:
    """What makes the connections to an instance.

    Raises:
        MissingDependencyError: aiohttp is asked for and not installed.
    """
    if layer == "httpx":
        return httpx_pool
    try:
        from .aiohttp_transport import aiohttp_pool
    except ImportError as error:
        if layer == "auto":
            return httpx_pool
        raise MissingDependencyError(
            "connection_layer='aiohttp'", "microservice-client[fast]"
        ) from error
    return aiohttp_pool


def httpx_pool(policy: ServicePolicy, tls: ssl.SSLContext) -> httpx.AsyncBaseTransport:
    """Connections by httpx itself.

    Raises:
        MissingDependencyError: HTTP/2 is asked for and not installed.
    """
    if policy.http2 and find_spec("h2") is None:
        raise MissingDependencyError("http2=True", "microservice-client[http2]")
    limits = httpx.Limits(
        max_connections=policy.max_connections_per_instance,
        max_keepalive_connections=policy.max_idle_connections_per_instance,
        keepalive_expiry=policy.idle_connection_seconds,
    )
    return CancelSafeTransport(
        httpx.AsyncHTTPTransport(verify=tls, http2=policy.http2, limits=limits)
    )


def _ssl_context(tls: TlsConfig) -> ssl.SSLContext:
    if not tls.verify:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    elif tls.ca_file is not None:
        context = ssl.create_default_context(cafile=tls.ca_file)
    else:
        context = httpx.create_ssl_context()
    if tls.certificate_file is not None:
        context.load_cert_chain(tls.certificate_file, tls.key_file)
    return context
