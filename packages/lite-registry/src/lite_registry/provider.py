"""lite-registry as a provider of the port `ServiceRegistry`: the client side, on httpx.

All writing is done by one thread, in order. So a busy event loop costs no lease, and a late
renewal cannot bring back what was deregistered.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import queue
import random
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypeVar, cast
from urllib.parse import quote, urlsplit

import httpx

from microservice_core import (
    InstanceNotFoundError,
    InstanceQuery,
    InstancesListener,
    InvalidValueError,
    ServiceInstance,
    ServiceRegistryAccessDeniedError,
    ServiceRegistryError,
    ServiceRegistryUnavailableError,
    Unsubscribe,
)
from microservice_core.delivery import Watchers
from microservice_core.providers import refuse_unknown_settings

from .cancellation import apart

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

__all__ = ("LiteServiceRegistry", "service_registry")

logger = logging.getLogger(__name__)

Settings = Mapping[str, object]
Seen = tuple[ServiceInstance, ...]
ResultT = TypeVar("ResultT")

SETTINGS = ("url", "token", "ttl_seconds", "timeout_seconds")
ANY_INSTANCE = InstanceQuery()
WATCH_SECONDS = 55
SERVICES_REMEMBERED = 1024
SHORTEST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 10.0


class _Service(NamedTuple):
    name: str
    group: str
    namespace: str

    @property
    def path(self) -> str:
        return f"/v1/instances/{quote(self.name, safe='')}"

    @property
    def params(self) -> dict[str, str]:
        given = {"group": self.group, "namespace": self.namespace}
        return {name: value for name, value in given.items() if value}


class LiteServiceRegistry:
    """A `ServiceRegistry` over the HTTP interface of lite-registry.

    Args:
        url: the server's address, or several of servers that share a store: `http://a,http://b`
            or a sequence. The one that answered last is asked first.
        token: the bearer token for writing.
        ttl_seconds: how long an instance outlives this process; renewed at a third of it.
        timeout_seconds: how long one request may take.

    Raises:
        InvalidValueError: naming the argument and its rule.
    """

    def __init__(
        self,
        url: str | Sequence[str],
        *,
        token: str = "",
        ttl_seconds: float = 15.0,
        timeout_seconds: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
    ) -> None:
        self._servers = _Servers(_addresses(url))
        ttl_seconds = _positive("ttl_seconds", ttl_seconds, least=1.0)
        self._timeout = _positive("timeout_seconds", timeout_seconds, least=0.001)
        self._headers = {"authorization": f"Bearer {_token(token)}"} if token else {}
        self._rng = rng or random.Random()
        writer = _Writer(self._servers, self._headers, ttl_seconds, self._timeout)
        self._keeper = _LeaseKeeper(writer, clock=clock, rng=self._rng)
        self._watchers: Watchers[tuple[_Service, InstanceQuery], Seen] = Watchers()
        self._polls: dict[_Service, asyncio.Task[None]] = {}
        self._seen: dict[_Service, Seen] = {}
        self._before: dict[_Service, tuple[str, Seen]] = {}
        self._reader: httpx.AsyncClient | None = None
        self._closed = False

    def __repr__(self) -> str:
        return f"LiteServiceRegistry({', '.join(self._servers.urls)})"

    @property
    def server_address(self) -> str:
        """The URL of the first server; tells which interface leads to the registry."""
        return self._servers.urls[0]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        await self.close()

    async def register(self, instance: ServiceInstance) -> None:
        """Announce the instance and keep it alive; registering it again replaces it."""
        await self._in_keeper(lambda: self._keeper.register(instance))

    async def deregister(self, instance: ServiceInstance) -> None:
        """Take the instance out; one that is not there is no error."""
        await self._in_keeper(lambda: self._keeper.deregister(instance))
        self._forget(instance)

    async def renew(self, instance: ServiceInstance) -> None:
        """Force one beat now; one that this object registered is registered again if forgotten.

        Raises:
            InstanceNotFoundError: the registry does not know it.
        """
        await self._in_keeper(lambda: self._keeper.renew(instance))

    async def get_instances(
        self, service_name: str, query: InstanceQuery = ANY_INSTANCE
    ) -> Sequence[ServiceInstance]:
        """The instances now, sorted by id; empty for a service nobody registered."""
        service = _Service(service_name, query.group_name, query.namespace_id)
        answer = await self._read("get_instances", service, {}, self._timeout)
        return _matching(self._believe(service, answer), query)

    def watch_instances(
        self,
        service_name: str,
        listener: InstancesListener,
        query: InstanceQuery = ANY_INSTANCE,
    ) -> Unsubscribe:
        """Call the listener with the present instances, then on each change.

        While no server answers, the listener keeps what it was told last.
        """
        self._refuse_when_closed()
        service = _Service(service_name, query.group_name, query.namespace_id)
        delivery, remove = self._watchers.add((service, query), listener)
        if service in self._seen:
            delivery.offer(_matching(self._seen[service], query))
        if service not in self._polls:
            task = asyncio.get_running_loop().create_task(self._poll(service))
            self._polls[service] = task

        def unsubscribe() -> None:
            remove()
            if all(watched != service for watched, _ in self._watchers.keys()):  # noqa: SIM118
                self._stop_polling(service)

        return unsubscribe

    async def close(self) -> None:
        """Deregister what was registered, end every watch, join the thread; twice is fine."""
        self._closed = True
        polls = [poll for service in tuple(self._polls) if (poll := self._stop_polling(service))]
        await self._watchers.aclose()
        await asyncio.gather(*polls, return_exceptions=True)
        await asyncio.to_thread(self._keeper.close)
        reader, self._reader = self._reader, None
        if reader is not None:
            await reader.aclose()

    async def _in_keeper(self, work: Callable[[], None]) -> None:
        self._refuse_when_closed()
        await asyncio.wrap_future(self._keeper.submit(work))

    def _refuse_when_closed(self) -> None:
        if self._closed:
            raise ServiceRegistryError(
                "it is closed; open another one", provider="lite", operation="use"
            )

    # reading

    async def _poll(self, service: _Service) -> None:
        version, failures = "", 0
        while True:
            began = time.monotonic()
            try:
                answer = await self._read_change(service, version)
                if answer is not None:
                    self._tell(service, self._believe(service, answer))
            except ServiceRegistryError as error:
                failures += 1
                if failures == 1:
                    logger.warning("%s; what was seen last stays", error)
                await asyncio.sleep(_pause(failures, self._rng))
                continue
            failures = 0
            known, version = version, str(answer.get("version", "")) if answer else version
            if known == version and time.monotonic() - began < 1.0:
                # A server that ends, or one that does not wait, is not asked in a hot loop.
                await asyncio.sleep(_pause(1, self._rng))

    async def _read_change(self, service: _Service, version: str) -> dict[str, object] | None:
        waiting = {"watch": "1", "version": version, "timeout": f"{WATCH_SECONDS}s"}
        patience = WATCH_SECONDS * 17 / 16 + self._timeout
        answer = await self._read("watch_instances", service, waiting, patience)
        return answer or None

    def _believe(self, service: _Service, answer: dict[str, object]) -> Seen:
        """What is there: as told, and what was there before a server forgot everything.

        It says that its list is not settled until everybody had the time to register again.
        """
        seen, epoch = _instances(service, answer), str(answer.get("epoch", ""))
        before = self._before.get(service)
        if answer.get("settled") is False and before is not None and before[0] != epoch:
            present = {instance.instance_id for instance in seen}
            return seen + tuple(one for one in before[1] if one.instance_id not in present)
        self._before.pop(service, None)
        self._before[service] = (epoch, seen)
        while len(self._before) > SERVICES_REMEMBERED:
            del self._before[next(iter(self._before))]
        return seen

    def _forget(self, instance: ServiceInstance) -> None:
        service = _service_of(instance)
        if service in self._before:
            epoch, seen = self._before[service]
            kept = tuple(one for one in seen if one.instance_id != instance.instance_id)
            self._before[service] = (epoch, kept)

    def _tell(self, service: _Service, seen: Seen) -> None:
        self._seen[service] = seen
        for watched, query in self._watchers.keys():  # noqa: SIM118 - not a mapping
            if watched == service:
                self._watchers.offer((service, query), _matching(seen, query))

    def _stop_polling(self, service: _Service) -> asyncio.Task[None] | None:
        self._seen.pop(service, None)
        poll = self._polls.pop(service, None)
        if poll is not None:
            poll.cancel()
        return poll

    async def _read(
        self, operation: str, service: _Service, params: dict[str, str], patience: float
    ) -> dict[str, object]:
        self._refuse_when_closed()
        if self._reader is None:
            self._reader = httpx.AsyncClient(
                headers=self._headers,
                verify=self._servers.secure,
                trust_env=False,
                limits=httpx.Limits(max_connections=None, max_keepalive_connections=100),
            )
        failure: ServiceRegistryError | None = None
        for url in self._servers.in_turn():
            try:
                response = await apart(
                    partial(
                        self._reader.get,
                        url + service.path,
                        params=service.params | params,
                        timeout=patience,
                    )
                )
                _check(response, operation, service.name)
            except httpx.TransportError as error:
                failure = _unreachable(url, operation, service.name, error)
            except ServiceRegistryUnavailableError as error:
                failure = error
            else:
                self._servers.prefer(url)
                return {} if response.status_code == 304 else _json(response)
        raise cast(ServiceRegistryError, failure)


class _Writer:
    """What is written to the servers, from the keeper's thread."""

    def __init__(
        self, servers: _Servers, headers: dict[str, str], ttl_seconds: float, timeout: float
    ) -> None:
        self._servers = servers
        self._headers = headers
        self._timeout = timeout
        self.ttl_seconds = ttl_seconds
        self._client: httpx.Client = cast(httpx.Client, None)

    def open(self) -> httpx.Client:
        """The client all writes go through from now on."""
        self._client = httpx.Client(
            timeout=self._timeout,
            headers=self._headers,
            verify=self._servers.secure,
            trust_env=False,
        )
        return self._client

    def put(self, instance: ServiceInstance) -> None:
        document = {
            "ip": instance.ip,
            "port": instance.port,
            "weight": instance.weight,
            "healthy": instance.healthy,
            "enabled": instance.enabled,
            "ephemeral": instance.ephemeral,
            "cluster": instance.cluster_name,
            "metadata": dict(instance.metadata),
            "ttl_seconds": self.ttl_seconds,
        }
        self._send("register", "PUT", instance, document=document)

    def renew(self, instance: ServiceInstance) -> None:
        self._send("renew", "POST", instance, suffix="/renew")

    def delete(self, instance: ServiceInstance) -> None:
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
        service, instance_id = _service_of(instance), quote(instance.instance_id, safe="")
        target = f"{instance.service_name} {instance.instance_id}"
        failure: ServiceRegistryError | None = None
        for url in self._servers.in_turn():
            address = f"{url}{service.path}/{instance_id}{suffix}"
            try:
                response = self._client.request(
                    method, address, params=service.params, json=document
                )
                _check(response, operation, target)
            except httpx.TransportError as error:
                failure = _unreachable(url, operation, target, error)
            except ServiceRegistryUnavailableError as error:
                failure = error
            else:
                self._servers.prefer(url)
                return
        raise cast(ServiceRegistryError, failure)


@dataclass(slots=True)
class _Held:
    instance: ServiceInstance
    due_at: float
    failures: int = 0


class _LeaseKeeper:
    """The thread that writes; it sleeps until something is asked of it or a renewal is due."""

    def __init__(self, writer: _Writer, *, clock: Callable[[], float], rng: random.Random) -> None:
        self._writer = writer
        self._clock = clock
        self._rng = rng
        self._work: queue.SimpleQueue[tuple[Callable[[], None], Future[None]] | None]
        self._work = queue.SimpleQueue()
        self._held: dict[tuple[_Service, str], _Held] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._pid = 0

    def submit(self, work: Callable[[], None]) -> Future[None]:
        """Do this in the thread, after what was asked before."""
        future: Future[None] = Future()
        with self._lock:
            if self._thread is None:
                self._pid = os.getpid()
                self._thread = threading.Thread(target=self._run, name="lite-leases", daemon=True)
                self._thread.start()
            self._work.put((work, future))
        return future

    def close(self) -> None:
        """Deregister everything held, then end the thread."""
        with self._lock:
            thread, self._thread = self._thread, None
            if thread is None or self._pid != os.getpid():
                return
            self._work.put(None)
        thread.join()

    def register(self, instance: ServiceInstance) -> None:
        self._writer.put(instance)
        self._held[_key(instance)] = _Held(instance, self._next_beat())

    def deregister(self, instance: ServiceInstance) -> None:
        self._held.pop(_key(instance), None)
        self._writer.delete(instance)

    def renew(self, instance: ServiceInstance) -> None:
        held = self._held.get(_key(instance))
        if held is None:
            self._writer.renew(instance)
        else:
            self._beat(held)

    def _run(self) -> None:
        with self._writer.open():
            while (asked := self._next()) is not None:
                self._do(*asked)
            self._let_go()

    def _next(self) -> tuple[Callable[[], None], Future[None]] | None:
        while True:
            due_at = min((held.due_at for held in self._held.values()), default=None)
            patience = None if due_at is None else max(0.0, due_at - self._clock())
            try:
                return self._work.get(timeout=patience)
            except queue.Empty:
                self._renew_due()

    @staticmethod
    def _do(work: Callable[[], None], future: Future[None]) -> None:
        if not future.set_running_or_notify_cancel():
            return
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - it goes to who asked
            future.set_exception(error)
        else:
            future.set_result(None)

    def _renew_due(self) -> None:
        for held in [held for held in self._held.values() if held.due_at <= self._clock()]:
            try:
                self._beat(held)
            except ServiceRegistryError as error:
                held.failures += 1
                held.due_at = self._clock() + _pause(held.failures, self._rng)
                if held.failures == 1:
                    logger.warning("%s; it is tried again until it succeeds", error)

    def _beat(self, held: _Held) -> None:
        try:
            self._writer.renew(held.instance)
        except InstanceNotFoundError:
            logger.info("the registry forgot %s; registering again", held.instance.instance_id)
            self._writer.put(held.instance)
        held.failures = 0
        held.due_at = self._next_beat()

    def _next_beat(self) -> float:
        return self._clock() + self._writer.ttl_seconds / 3 * self._rng.uniform(0.9, 1.0)

    def _let_go(self) -> None:
        for held in self._held.values():
            try:
                self._writer.delete(held.instance)
            except ServiceRegistryError as error:
                logger.warning("%s; the lease will lapse by itself", error)
        self._held.clear()


class _Servers:
    """The addresses, the one that answered last first; threads may share it."""

    def __init__(self, urls: tuple[str, ...]) -> None:
        self.urls = urls
        self._preferred = 0

    @property
    def secure(self) -> bool:
        # Only https needs certificates, and loading them costs 20 ms.
        return any(url.startswith("https:") for url in self.urls)

    def in_turn(self) -> tuple[str, ...]:
        first = self._preferred
        return self.urls[first:] + self.urls[:first]

    def prefer(self, url: str) -> None:
        self._preferred = self.urls.index(url)


@asynccontextmanager
async def service_registry(settings: Settings) -> AsyncIterator[LiteServiceRegistry]:
    """Provider `lite` of the port `service_registry`.

    Settings: `url` (needed), `token`, `ttl_seconds`, `timeout_seconds`; see `LiteServiceRegistry`.

    Raises:
        InvalidValueError: a setting is unknown, missing or breaks a rule.
    """
    refuse_unknown_settings("lite", settings, SETTINGS)
    options = {name: value for name, value in settings.items() if name != "url"}
    url = cast("str | Sequence[str]", settings.get("url", ""))
    async with LiteServiceRegistry(url, **options) as registry:  # type: ignore[arg-type]
        yield registry


def _addresses(url: object) -> tuple[str, ...]:
    given = url.split(",") if isinstance(url, str) else url
    rule = "one or more addresses such as 'http://lite-registry:8080'"
    if not isinstance(given, Sequence) or not given:
        raise InvalidValueError("url", url, rule)
    addresses = tuple(_address(one, rule) for one in given)
    return tuple(dict.fromkeys(addresses))


def _address(url: object, rule: str) -> str:
    text = url.strip().rstrip("/") if isinstance(url, str) else ""
    with contextlib.suppress(ValueError):
        parts = urlsplit(text)
        plain = not (parts.query or parts.fragment or parts.username or parts.password)
        if parts.scheme in {"http", "https"} and parts.hostname and plain and parts.port != 0:
            return text
    raise InvalidValueError("url", _without_credentials(url), rule)


def _without_credentials(url: object) -> object:
    return url.rpartition("@")[2] if isinstance(url, str) else url


def _positive(name: str, value: object, *, least: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= 3600:
        raise InvalidValueError(name, value, f"a number of seconds from {least:g} to 3600")
    return float(value)


def _token(token: object) -> str:
    if not isinstance(token, str) or not token.isascii() or not token.isprintable():
        raise InvalidValueError("token", "<hidden>", "printable ASCII")
    return token


def _pause(failures: int, rng: random.Random) -> float:
    longest = min(LONGEST_PAUSE_SECONDS, SHORTEST_PAUSE_SECONDS * 2 ** min(failures, 10))
    return rng.uniform(longest / 2, longest)


def _service_of(instance: ServiceInstance) -> _Service:
    return _Service(instance.service_name, instance.group_name, instance.namespace_id)


def _key(instance: ServiceInstance) -> tuple[_Service, str]:
    return _service_of(instance), instance.instance_id


def _matching(instances: Seen, query: InstanceQuery) -> Seen:
    return tuple(instance for instance in instances if query.matches(instance))


def _check(response: httpx.Response, operation: str, target: str) -> None:
    """Raise what the status means."""
    status = response.status_code
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
        f"HTTP {status}: {_detail(response)}",
        provider="lite",
        operation=operation,
        target=target,
        retryable=status >= 500 or status == 429,
    )


def _detail(response: httpx.Response) -> str:
    with contextlib.suppress(ValueError):
        document = response.json()
        if isinstance(document, dict) and isinstance(document.get("detail"), str):
            return cast(str, document["detail"])[:300]
    return "no explanation; check that the url is that of a lite-registry"


def _unreachable(
    url: str, operation: str, target: str, error: httpx.TransportError
) -> ServiceRegistryUnavailableError:
    reason = str(error) or type(error).__name__
    unavailable = ServiceRegistryUnavailableError(
        f"{url} does not answer ({reason}); check the url and that the server runs",
        provider="lite",
        operation=operation,
        target=target,
        retryable=True,
    )
    unavailable.__cause__ = error
    return unavailable


def _json(response: httpx.Response) -> dict[str, object]:
    with contextlib.suppress(ValueError):
        document = response.json()
        if isinstance(document, dict):
            return document
    raise ServiceRegistryError(
        f"the answer is no registry document: {response.text[:80]!r}; check the url",
        provider="lite",
        operation="get_instances",
    )


def _instances(service: _Service, answer: dict[str, object]) -> Seen:
    try:
        documents = cast("list[dict[str, object]]", answer["instances"])
        return tuple(_instance(service, document) for document in documents)
    except (KeyError, TypeError, AttributeError, InvalidValueError) as error:
        raise ServiceRegistryError(
            f"the answer is no list of instances ({error!r}); check the url",
            provider="lite",
            operation="get_instances",
            target=service.name,
        ) from error


def _instance(service: _Service, document: dict[str, object]) -> ServiceInstance:
    return ServiceInstance(
        service_name=service.name,
        group_name=service.group,
        namespace_id=service.namespace,
        instance_id=cast(str, document["id"]),
        ip=cast(str, document["ip"]),
        port=cast(int, document["port"]),
        weight=cast(float, document["weight"]),
        healthy=cast(bool, document["healthy"]),
        enabled=cast(bool, document["enabled"]),
        ephemeral=cast(bool, document["ephemeral"]),
        cluster_name=cast(str, document["cluster"]),
        metadata=cast("dict[str, str]", document["metadata"]),
    )
