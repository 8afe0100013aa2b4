"""Requests to the servers: the one module of the provider that knows httpx."""

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

from .cancellation import apart
from .documents import Service, instance_document

__all__ = ("Reader", "Servers", "Writer")

LONGEST_ANSWER = 64 * 1024 * 1024


class Servers:
    """The addresses, the one that answered last first; threads may share it."""

    def __init__(self, urls: tuple[str, ...], headers: dict[str, str]) -> None:
        self.urls = urls
        self.headers = headers
        self._preferred = 0

    @property
    def secure(self) -> bool:
        """Only https needs certificates, and loading them costs 20 ms."""
        return any(url.startswith("https:") for url in self.urls)

    def in_turn(self) -> tuple[str, ...]:
        """The order in which to ask."""
        first = self._preferred
        return self.urls[first:] + self.urls[:first]

    def prefer(self, url: str) -> None:
        """This one answered."""
        self._preferred = self.urls.index(url)


class _Answer(NamedTuple):
    status: int
    body: bytes


class Reader:
    """What is read from the servers, in the event loop."""

    def __init__(self, servers: Servers, *, connect_seconds: float) -> None:
        self._servers = servers
        self._connect_seconds = connect_seconds
        self._client: httpx.AsyncClient | None = None

    async def read(
        self, operation: str, service: Service, params: dict[str, str], within_seconds: float
    ) -> dict[str, object] | None:
        """The service's document; None when the server says that nothing has changed.

        Raises:
            ServiceRegistryError: no server gave one.
        """
        failure: ServiceRegistryError | None = None
        for url in self._servers.in_turn():
            ask = partial(self._ask, url + service.path, service.params | params)
            try:
                with _unavailable(url, operation, service.name, within_seconds):
                    async with asyncio.timeout(within_seconds):
                        answer = await apart(ask)
                _check(answer, operation, service.name)
            except ServiceRegistryUnavailableError as error:
                failure = error
            else:
                self._servers.prefer(url)
                return None if answer.status == 304 else _document(answer)
        raise cast(ServiceRegistryError, failure)

    async def aclose(self) -> None:
        """Close the connections."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def _ask(self, url: str, params: dict[str, str]) -> _Answer:
        async with self._open().stream("GET", url, params=params) as response:
            return _Answer(response.status_code, await _whole(response.aiter_bytes()))

    def _open(self) -> httpx.AsyncClient:
        if self._client is None:
            self._client = httpx.AsyncClient(
                # httpx limits each step, which together may last for ever; `read` limits the whole.
                timeout=httpx.Timeout(None, connect=self._connect_seconds),
                headers=self._servers.headers,
                verify=self._servers.secure,
                trust_env=False,
                limits=httpx.Limits(max_connections=None, max_keepalive_connections=100),
            )
        return self._client


class Writer:
    """What is written to the servers, from one thread."""

    def __init__(self, servers: Servers, *, ttl_seconds: float, timeout_seconds: float) -> None:
        self._servers = servers
        self._timeout_seconds = timeout_seconds
        self.ttl_seconds = ttl_seconds
        self._client: httpx.Client = cast(httpx.Client, None)

    @contextmanager
    def connections(self) -> Iterator[None]:
        """All writes go through these."""
        with httpx.Client(
            timeout=self._timeout_seconds,
            headers=self._servers.headers,
            verify=self._servers.secure,
            trust_env=False,
        ) as self._client:
            yield

    def put(self, instance: ServiceInstance) -> None:
        """Register it, or what has changed of it."""
        document = instance_document(instance, self.ttl_seconds)
        self._send("register", "PUT", instance, document=document)

    def renew(self, instance: ServiceInstance) -> None:
        """Prolong its lease."""
        self._send("renew", "POST", instance, suffix="/renew")

    def delete(self, instance: ServiceInstance) -> None:
        """Deregister it."""
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
        service, instance_id = Service.of(instance), quote(instance.instance_id, safe="")
        target = f"{instance.service_name} {instance.instance_id}"
        failure: ServiceRegistryError | None = None
        for url in self._servers.in_turn():
            address = f"{url}{service.path}/{instance_id}{suffix}"
            try:
                with _unavailable(url, operation, target, self._timeout_seconds):
                    answer = self._ask(method, address, service.params, document)
                _check(answer, operation, target)
            except ServiceRegistryUnavailableError as error:
                failure = error
            else:
                self._servers.prefer(url)
                return
        raise cast(ServiceRegistryError, failure)

    def _ask(
        self, method: str, url: str, params: dict[str, str], document: dict[str, object] | None
    ) -> _Answer:
        ends_at = time.monotonic() + self._timeout_seconds
        with self._client.stream(method, url, params=params, json=document) as response:
            body = bytearray()
            for chunk in response.iter_bytes():
                if time.monotonic() > ends_at:
                    raise TimeoutError
                _take(body, chunk)
            return _Answer(response.status_code, bytes(body))


async def _whole(chunks: AsyncIterator[bytes]) -> bytes:
    body = bytearray()
    async for chunk in chunks:
        _take(body, chunk)
    return bytes(body)


def _take(body: bytearray, chunk: bytes) -> None:
    body += chunk
    if len(body) > LONGEST_ANSWER:
        raise httpx.DecodingError(f"an answer of more than {LONGEST_ANSWER} bytes")


@contextmanager
def _unavailable(url: str, operation: str, target: str, within_seconds: float) -> Iterator[None]:
    """Whatever keeps the answer from being read means the same: this server cannot be had."""
    try:
        yield
    except (httpx.RequestError, TimeoutError) as error:
        reason = f"({str(error) or type(error).__name__})"
        if isinstance(error, TimeoutError | httpx.TimeoutException):
            reason = f"within {within_seconds:g} s"
        raise ServiceRegistryUnavailableError(
            f"{url} does not answer {reason}; check the url and that the server runs",
            provider="lite",
            operation=operation,
            target=target,
            retryable=True,
        ) from error


def _check(answer: _Answer, operation: str, target: str) -> None:
    """Raise what the status means."""
    status = answer.status
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
        f"HTTP {status}: {_detail(answer)}",
        provider="lite",
        operation=operation,
        target=target,
        retryable=status >= 500 or status == 429,
    )


def _detail(answer: _Answer) -> str:
    document = _json(answer)
    if isinstance(document, dict) and isinstance(document.get("detail"), str):
        return cast(str, document["detail"])[:300]
    return "no explanation; check that the url is that of a lite-registry"


def _document(answer: _Answer) -> dict[str, object]:
    document = _json(answer)
    if isinstance(document, dict):
        return document
    begin = answer.body[:80].decode("utf-8", "replace")
    raise ServiceRegistryError(
        f"the answer is no registry document: {begin!r}; check the url",
        provider="lite",
        operation="get_instances",
    )


def _json(answer: _Answer) -> object:
    with contextlib.suppress(ValueError, RecursionError):
        return json.loads(answer.body)
    return None
