"""`LiteServiceRegistry`: reads in the event loop, writes through the lease keeper's thread."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

from microservice_core import (
    InstanceQuery,
    InstancesListener,
    InvalidValueError,
    ServiceInstance,
    ServiceRegistryError,
    Unsubscribe,
)
from microservice_core.delivery import Watchers
from microservice_core.providers import refuse_unknown_settings

from .documents import Service, instances_of
from .exchange import Reader, Servers, Writer
from .lease_keeper import LeaseKeeper, pause

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

__all__ = ("LiteServiceRegistry", "service_registry")

logger = logging.getLogger(__name__)

Settings = Mapping[str, object]
Seen = tuple[ServiceInstance, ...]

SETTINGS = ("url", "token", "ttl_seconds", "timeout_seconds")
ANY_INSTANCE = InstanceQuery()
WATCH_SECONDS = 55
SERVICES_REMEMBERED = 1024


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
        ttl_seconds = _positive("ttl_seconds", ttl_seconds, least=1.0)
        self._timeout = _positive("timeout_seconds", timeout_seconds, least=0.001)
        headers = {"authorization": f"Bearer {_token(token)}"} if token else {}
        self._servers = Servers(_addresses(url), headers)
        self._rng = rng or random.Random()
        writer = Writer(self._servers, ttl_seconds=ttl_seconds, timeout_seconds=self._timeout)
        self._keeper = LeaseKeeper(writer, clock=clock, rng=self._rng)
        self._reader = Reader(self._servers, connect_seconds=self._timeout)
        self._watchers: Watchers[tuple[Service, InstanceQuery], Seen] = Watchers()
        self._polls: dict[Service, asyncio.Task[None]] = {}
        self._seen: dict[Service, Seen] = {}
        self._before: dict[Service, tuple[str, Seen]] = {}
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

    async def hand_over(self, instance: ServiceInstance) -> None:
        """Renew the instance no more, and leave it registered: another process goes on with it."""
        await self._in_keeper(lambda: self._keeper.let_alone(instance))

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
        service = Service(service_name, query.group_name, query.namespace_id)
        answer = await self._read("get_instances", service, {}, self._timeout)
        return _matching(self._believe(service, answer or {}), query)

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
        service = Service(service_name, query.group_name, query.namespace_id)
        delivery, remove = self._watchers.add((service, query), listener)
        if service in self._seen:
            delivery.notify(_matching(self._seen[service], query))
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
        await self._reader.aclose()

    async def _in_keeper(self, work: Callable[[], None]) -> None:
        self._refuse_when_closed()
        await asyncio.wrap_future(self._keeper.submit(work))

    def _refuse_when_closed(self) -> None:
        if self._closed:
            raise ServiceRegistryError(
                "it is closed; open another one", provider="lite", operation="use"
            )

    # reading

    async def _poll(self, service: Service) -> None:
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
                await asyncio.sleep(pause(failures, self._rng))
                continue
            failures = 0
            known, version = version, str(answer.get("version", "")) if answer else version
            if known == version and time.monotonic() - began < 1.0:
                # A server that ends, or one that does not wait, is not asked in a hot loop.
                await asyncio.sleep(pause(1, self._rng))

    async def _read_change(self, service: Service, version: str) -> dict[str, object] | None:
        waiting = {"watch": "1", "version": version, "timeout": f"{WATCH_SECONDS}s"}
        patience = WATCH_SECONDS * 17 / 16 + self._timeout
        return await self._read("watch_instances", service, waiting, patience)

    def _believe(self, service: Service, answer: dict[str, object]) -> Seen:
        """What is there: as told, and what was there before a server forgot everything.

        It says that its list is not settled until everybody had the time to register again.
        """
        seen, epoch = instances_of(service, answer), str(answer.get("epoch", ""))
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
        service = Service.of(instance)
        if service in self._before:
            epoch, seen = self._before[service]
            kept = tuple(one for one in seen if one.instance_id != instance.instance_id)
            self._before[service] = (epoch, kept)

    def _tell(self, service: Service, seen: Seen) -> None:
        self._seen[service] = seen
        for watched, query in self._watchers.keys():  # noqa: SIM118 - not a mapping
            if watched == service:
                self._watchers.notify((service, query), _matching(seen, query))

    def _stop_polling(self, service: Service) -> asyncio.Task[None] | None:
        self._seen.pop(service, None)
        poll = self._polls.pop(service, None)
        if poll is not None:
            poll.cancel()
        return poll

    async def _read(
        self, operation: str, service: Service, params: dict[str, str], within_seconds: float
    ) -> dict[str, object] | None:
        self._refuse_when_closed()
        return await self._reader.read(operation, service, params, within_seconds)


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


def _matching(instances: Seen, query: InstanceQuery) -> Seen:
    return tuple(instance for instance in instances if query.matches(instance))
