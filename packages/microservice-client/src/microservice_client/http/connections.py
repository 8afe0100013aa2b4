"""Connections to instances: one pool per instance, with the limits and TLS of its service."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Collection
from importlib.util import find_spec
from typing import Literal

import httpx

from microservice_client.errors import ClientClosedError
from microservice_client.policy import ServicePolicy, TlsConfig
from microservice_core import MissingDependencyError, ServiceInstance

from .cancel_safe import CancelSafeTransport
from .connection_places import ConnectionPlaces
from .paced_connects import PacedConnects

__all__ = ("ConnectionLayer", "Connections", "Pool", "PoolFactory")

ConnectionLayer = Literal["auto", "httpx", "aiohttp"]

PoolFactory = Callable[[ServicePolicy, ssl.SSLContext], httpx.AsyncBaseTransport]
"""Makes the transport with the connections to one instance."""


class Pool:
    """The connections to one instance.

    Attributes:
        transport: sends requests over them.
        places: how many requests are sent at the same time; None if the transport decides.
        active: calls in flight; whoever starts a call adds 1, and calls `end_call` at its end.
        retired: no new call is made, and the pool is closed after the last call.
    """

    __slots__ = ("_close", "active", "places", "retired", "transport")

    def __init__(
        self,
        transport: httpx.AsyncBaseTransport,
        close: Callable[[Pool], None],
        places: ConnectionPlaces | None = None,
    ) -> None:
        self.transport = transport
        self.places = places
        self.active = 0
        self.retired = False
        self._close = close

    def end_call(self) -> None:
        """Count a call as over, its response's body included."""
        self.active -= 1
        if self.retired and not self.active:
            self._close(self)

    def close_when_idle(self) -> None:
        """Retire the pool: close it as soon as no call uses it."""
        if not self.retired:
            self.retired = True
            if not self.active:
                self._close(self)


class Connections:
    """Finds or opens the pool of an instance.

    Args:
        transport: carries every call; there is no pool per instance then.
        layer: makes the connections: httpx's own, or aiohttp's (extra `fast`). `auto` uses aiohttp
            when it is installed.

    Raises:
        MissingDependencyError: `layer` is `aiohttp`, which is not installed.
    """

    def __init__(
        self, transport: httpx.AsyncBaseTransport | None, *, layer: ConnectionLayer = "auto"
    ) -> None:
        if isinstance(transport, httpx.AsyncHTTPTransport):
            transport = CancelSafeTransport(transport)
        self._shared = Pool(transport, self._start_closing) if transport is not None else None
        self._make_pool = choose_pool_factory(layer) if transport is None else make_httpx_pool
        self._pools: dict[tuple[str, str], Pool] = {}
        self._tls_contexts: dict[TlsConfig, ssl.SSLContext] = {}
        # For instances without TLS; making a real context for each pool would load all authorities.
        self._plain_context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        # Retired ones with calls in flight.
        self._draining: set[Pool] = set()
        self._closings: set[asyncio.Task[None]] = set()
        self._closed = False

    def find_pool(self, policy: ServicePolicy, instance: ServiceInstance) -> Pool:
        """Return the pool of the instance; a new one if there is none.

        Raises:
            ClientClosedError: the connections are closed.
        """
        if self._shared is not None:
            return self._shared
        key = (instance.service_name, instance.base_url)
        pool = self._pools.get(key)
        if pool is None:
            pool = self._pools[key] = self._open_pool(policy, instance)
        return pool

    def _open_pool(self, policy: ServicePolicy, instance: ServiceInstance) -> Pool:
        if self._closed:
            raise ClientClosedError
        tls = self._tls_context(policy.tls) if instance.secure else self._plain_context
        if policy.http2:
            # One connection carries many requests, so the layer has to count by itself.
            return Pool(make_httpx_pool(policy, tls), self._start_closing)
        places = ConnectionPlaces(policy.max_connections_per_instance)
        return Pool(self._make_pool(policy, tls), self._start_closing, places)

    def pooled_urls(self, service: str) -> tuple[str, ...]:
        """The base URL of each instance of the service that has a pool."""
        return tuple(url for name, url in tuple(self._pools) if name == service)

    def keep_only(self, service: str, base_urls: Collection[str]) -> None:
        """Retire the pools of the service's instances that have none of these base URLs."""
        for key in [key for key in self._pools if key[0] == service and key[1] not in base_urls]:
            pool = self._pools.pop(key)
            self._draining.add(pool)
            pool.close_when_idle()

    async def aclose(self) -> None:
        """Close every connection, including those of calls in flight."""
        self._closed = True
        pools = [*self._pools.values(), *self._draining]
        self._pools.clear()
        self._draining.clear()
        if self._shared is not None:
            pools.append(self._shared)
        for task in list(self._closings):
            await task
        for pool in pools:
            if pool.places is not None:
                pool.places.close()
            await pool.transport.aclose()

    def _tls_context(self, tls: TlsConfig) -> ssl.SSLContext:
        context = self._tls_contexts.get(tls)
        if context is None:
            context = self._tls_contexts[tls] = make_tls_context(tls)
        return context

    def _start_closing(self, pool: Pool) -> None:
        self._draining.discard(pool)
        if self._closed:
            return
        # Not supervised: it ends by itself. The set keeps it from being collected, and asyncio logs
        # an error of it.
        task = asyncio.get_running_loop().create_task(pool.transport.aclose())
        self._closings.add(task)
        task.add_done_callback(self._closings.discard)


def choose_pool_factory(layer: ConnectionLayer) -> PoolFactory:
    """Return the function that makes the connections to an instance.

    Raises:
        MissingDependencyError: `layer` is `aiohttp`, which is not installed.
    """
    if layer == "httpx":
        return make_httpx_pool
    try:
        from .aiohttp_transport import AiohttpTransport
    except ImportError as error:
        if layer == "auto":
            return make_httpx_pool
        raise MissingDependencyError(
            "connection_layer='aiohttp'", "microservice-client[fast]"
        ) from error
    return AiohttpTransport


def make_httpx_pool(policy: ServicePolicy, tls: ssl.SSLContext) -> httpx.AsyncBaseTransport:
    """Make connections to one instance by httpx itself.

    Raises:
        MissingDependencyError: the policy has `http2=True` and the extra `http2` is not installed.
    """
    if policy.http2 and find_spec("h2") is None:
        raise MissingDependencyError("http2=True", "microservice-client[http2]")
    limits = httpx.Limits(
        max_connections=policy.max_connections_per_instance,
        max_keepalive_connections=policy.max_idle_connections_per_instance,
        keepalive_expiry=policy.idle_connection_seconds,
    )
    transport = httpx.AsyncHTTPTransport(verify=tls, http2=policy.http2, limits=limits)
    return CancelSafeTransport(PacedConnects(transport))


def make_tls_context(tls: TlsConfig) -> ssl.SSLContext:
    """Make the TLS context of connections to a service's instances.

    Raises:
        OSError: a file of the configuration cannot be read.
    """
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
