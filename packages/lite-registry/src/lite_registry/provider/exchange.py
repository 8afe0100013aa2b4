"""Requests to the servers: the one module of the provider that imports httpx."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple, cast
from urllib.parse import quote

import httpx

from microservice_core import (
    InstanceNotFoundError,
    ServiceInstance,
    ServiceRegistryAccessDeniedError,
    ServiceRegistryError,
    ServiceRegistryUnavailableError,
)

from ._run_uncancelled import run_uncancelled
from .documents import Service, build_document

__all__ = ("Reader", "Servers", "Writer")

_MAX_BODY_BYTES = 64 * 1024 * 1024
_MAX_KEEPALIVE_CONNECTIONS = 100


class Servers:
    """The addresses of the servers, the one that responded last first; threads may share it."""

    def __init__(self, urls: tuple[str, ...], headers: dict[str, str]) -> None:
        self.urls = urls
        self.headers = headers
        self._preferred = 0

    @property
    def verify(self) -> bool:
        """Whether any address is https: only then are certificates loaded, which costs 20 ms."""
        return any(url.startswith("https:") for url in self.urls)

    def get_order(self) -> tuple[str, ...]:
        """The addresses in the order in which to try them."""
        first = self._preferred
        return self.urls[first:] + self.urls[:first]

    def prefer(self, url: str) -> None:
        """Try this one first from now on: it responded."""
        self._preferred = self.urls.index(url)


class _Response(NamedTuple):
    status: int
    body: bytes


class Reader:
    """Reads from the servers, in the event loop."""

    def __init__(self, servers: Servers, *, connect_seconds: float) -> None:
        self._servers = servers
        self._connect_seconds = connect_seconds
        self._client: httpx.AsyncClient | None = None

    async def read(
        self, operation: str, service: Service, params: dict[str, str], within_seconds: float
    ) -> dict[str, object] | None:
        """The service's list of instances; None when the server responds 304.

        Raises:
            ServiceRegistryError: no server gave a usable response.
        """
        failure: ServiceRegistryError | None = None
        for url in self._servers.get_order():
            send = partial(self._send, url + service.path, service.params | params)
            try:
                with _translate_errors(url, operation, service.name, within_seconds):
                    async with asyncio.timeout(within_seconds):
                        response = await run_uncancelled(send)
                _raise_for_status(response, operation, service.name)
            except ServiceRegistryUnavailableError as error:
                failure = error
            else:
                self._servers.prefer(url)
                return None if response.status == 304 else _parse_document(response)
        raise cast(ServiceRegistryError, failure)

    async def aclose(self) -> None:
        """Close the connections."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def _send(self, url: str, params: dict[str, str]) -> _Response:
        async with self._get_client().stream("GET", url, params=params) as response:
            return _Response(response.status_code, await _read_body(response.aiter_bytes()))

    def _get_client(self) -> httpx.AsyncClient:
        if self._client is None:
            self._client = httpx.AsyncClient(
                # httpx limits each step, and any number of steps may follow; `read` limits them all.
                timeout=httpx.Timeout(None, connect=self._connect_seconds),
                headers=self._servers.headers,
                verify=self._servers.verify,
                trust_env=False,
                limits=httpx.Limits(
                    max_connections=None, max_keepalive_connections=_MAX_KEEPALIVE_CONNECTIONS
                ),
            )
        return self._client


class Writer:
    """Writes to the servers, from one thread."""

    def __init__(self, servers: Servers, *, ttl_seconds: float, timeout_seconds: float) -> None:
        self._servers = servers
        self._timeout_seconds = timeout_seconds
        self.ttl_seconds = ttl_seconds
        self._client: httpx.Client = cast(httpx.Client, None)

    @contextmanager
    def open_connections(self) -> Iterator[None]:
        """Hold connections open for the writes inside the block."""
        with httpx.Client(
            timeout=self._timeout_seconds,
            headers=self._servers.headers,
            verify=self._servers.verify,
            trust_env=False,
        ) as self._client:
            yield

    def put(self, instance: ServiceInstance) -> None:
        """Register the instance, or replace its registration."""
        document = build_document(instance, self.ttl_seconds)
        self._send("register", "PUT", instance, document=document)

    def renew(self, instance: ServiceInstance) -> None:
        """Renew the lease of the instance.

        Raises:
            InstanceNotFoundError: the registry does not know it.
        """
        self._send("renew", "POST", instance, suffix="/renew")

    def delete(self, instance: ServiceInstance) -> None:
        """Deregister the instance."""
        self._send("deregister", "DELETE", instance)

    def _send(
        self,
        operation: str,
        method: str,
        instance: ServiceInstance,
        *,
        suffix: str = "",
        document: dict[str, object] | None = None,
    ) -> None:
        service, instance_id = Service.from_instance(instance), quote(instance.instance_id, safe="")
        target = f"{instance.service_name} {instance.instance_id}"
        failure: ServiceRegistryError | None = None
        for url in self._servers.get_order():
            address = f"{url}{service.path}/{instance_id}{suffix}"
            try:
                with _translate_errors(url, operation, target, self._timeout_seconds):
                    response = self._send_to(method, address, service.params, document)
                _raise_for_status(response, operation, target)
            except ServiceRegistryUnavailableError as error:
                failure = error
            else:
                self._servers.prefer(url)
                return
        raise cast(ServiceRegistryError, failure)

    def _send_to(
        self, method: str, url: str, params: dict[str, str], document: dict[str, object] | None
    ) -> _Response:
        ends_at = time.monotonic() + self._timeout_seconds
        with self._client.stream(method, url, params=params, json=document) as response:
            body = bytearray()
            for chunk in response.iter_bytes():
                if time.monotonic() > ends_at:
                    raise TimeoutError
                _append(body, chunk)
            return _Response(response.status_code, bytes(body))


async def _read_body(chunks: AsyncIterator[bytes]) -> bytes:
    body = bytearray()
    async for chunk in chunks:
        _append(body, chunk)
    return bytes(body)


def _append(body: bytearray, chunk: bytes) -> None:
    body += chunk
    if len(body) > _MAX_BODY_BYTES:
        raise httpx.DecodingError(f"a response of more than {_MAX_BODY_BYTES} bytes")


@contextmanager
def _translate_errors(
    url: str, operation: str, target: str, within_seconds: float
) -> Iterator[None]:
    """Raise ServiceRegistryUnavailableError for whatever prevents a response."""
    try:
        yield
    except (httpx.RequestError, TimeoutError) as error:
        reason = f"({str(error) or type(error).__name__})"
        if isinstance(error, TimeoutError | httpx.TimeoutException):
            reason = f"within {within_seconds:g} s"
        raise ServiceRegistryUnavailableError(
            f"{url} does not respond {reason}; check the url and that the server runs",
            provider="lite",
            operation=operation,
            target=target,
            retryable=True,
        ) from error


def _raise_for_status(response: _Response, operation: str, target: str) -> None:
    status = response.status
    if status in {200, 201, 204, 304}:
        return
    kind: type[ServiceRegistryError] = ServiceRegistryError
    if status in {401, 403}:
        kind = ServiceRegistryAccessDeniedError
    elif status == 404:
        kind = InstanceNotFoundError
    elif status in {429, 502, 503, 504}:
        kind = ServiceRegistryUnavailableError
    raise kind(
        f"HTTP {status}: {_read_detail(response)}",
        provider="lite",
        operation=operation,
        target=target,
        retryable=status >= 500 or status == 429,
    )


def _read_detail(response: _Response) -> str:
    document = _parse_json(response)
    if isinstance(document, dict) and isinstance(document.get("detail"), str):
        return cast(str, document["detail"])[:300]
    return "no explanation; check that the url is that of a lite-registry"


def _parse_document(response: _Response) -> dict[str, object]:
    document = _parse_json(response)
    if isinstance(document, dict):
        return document
    beginning = response.body[:80].decode("utf-8", "replace")
    raise ServiceRegistryError(
        f"the response is not a registry document: {beginning!r}; check the url",
        provider="lite",
        operation="get_instances",
    )


def _parse_json(response: _Response) -> object:
    with contextlib.suppress(ValueError, RecursionError):
        return json.loads(response.body)
    return None
