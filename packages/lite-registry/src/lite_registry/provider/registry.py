"""`LiteServiceRegistry`: reads in the event loop, writes through the lease keeper's thread."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Self, cast
from urllib.parse import urlsplit

from microservice_core import (
    InstanceQuery,
    InstancesListener,
    InvalidValueError,
    ServiceInstance,
    ServiceRegistryError,
    Unsubscribe,
    reseed_after_fork,
)
from microservice_core.delivery import Watchers
from microservice_core.providers import refuse_unknown_settings

from .documents import Service, parse_instances
from .exchange import Reader, Servers, Writer
from .lease_keeper import LeaseKeeper, compute_pause

__all__ = ("LiteServiceRegistry", "service_registry")

logger = logging.getLogger(__name__)

Settings = Mapping[str, object]
Instances = tuple[ServiceInstance, ...]

_SETTINGS = ("url", "token", "ttl_seconds", "timeout_seconds")
_ANY_INSTANCE = InstanceQuery()
_WATCH_SECONDS = 55
_QUICK_SECONDS = 1.0
_MAX_LISTS_KEPT = 1024


class LiteServiceRegistry:
    """A `ServiceRegistry` over the HTTP interface of lite-registry.

    Args:
        url: the server's address, or several of servers that share a store: `http://a,http://b`
            or a sequence. The one that responded last is tried first.
        token: the bearer token for writing.
        ttl_seconds: how long an instance outlives this process; renewed after a third of it.
        timeout_seconds: the time limit of one request.

    Raises:
        InvalidValueError: an argument is illegal; the error names it and the rule.
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
        ttl_seconds = _validate_seconds("ttl_seconds", ttl_seconds, lowest=1.0)
        self._timeout = _validate_seconds("timeout_seconds", timeout_seconds, lowest=0.001)
        headers = {"authorization": f"Bearer {_validate_token(token)}"} if token else {}
        self._servers = Servers(_parse_addresses(url), headers)
        self._rng = rng or reseed_after_fork(random.Random())
        writer = Writer(self._servers, ttl_seconds=ttl_seconds, timeout_seconds=self._timeout)
        self._keeper = LeaseKeeper(writer, clock=clock, rng=self._rng)
        self._reader = Reader(self._servers, connect_seconds=self._timeout)
        self._watchers: Watchers[tuple[Service, InstanceQuery], Instances] = Watchers()
        self._polls: dict[Service, asyncio.Task[None]] = {}
        self._watched_lists: dict[Service, Instances] = {}
        # The epoch and instances of each last list, for a server that restarts and forgets them.
        self._last_lists: dict[Service, tuple[str, Instances]] = {}
        self._closed = False

    def __repr__(self) -> str:
        return f"LiteServiceRegistry({', '.join(self._servers.urls)})"

    @property
    def server_address(self) -> str:
        """The URL of the first server; shows which network interface leads to the registry."""
        return self._servers.urls[0]

    @property
    def remembered_services(self) -> int:
        """The number of services whose last list is kept, in case their server restarts."""
        return len(self._last_lists)

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
        """Register the instance and keep it alive; registering it again replaces it."""
        await self._run_in_keeper(lambda: self._keeper.register(instance))

    async def deregister(self, instance: ServiceInstance) -> None:
        """Deregister the instance; one that the registry does not know is no error."""
        await self._run_in_keeper(lambda: self._keeper.deregister(instance))
        self._remove_from_last_list(instance)

    async def hand_over(self, instance: ServiceInstance) -> None:
        """Renew the instance no more, and leave it registered for another process."""
        await self._run_in_keeper(lambda: self._keeper.release(instance))

    async def renew(self, instance: ServiceInstance) -> None:
        """Renew the instance now; register it again if the registry forgot an own one.

        Raises:
            InstanceNotFoundError: the registry does not know it.
        """
        await self._run_in_keeper(lambda: self._keeper.renew(instance))

    async def get_instances(
        self, service_name: str, query: InstanceQuery = _ANY_INSTANCE
    ) -> Sequence[ServiceInstance]:
        """The instances now, sorted by id; empty for a service without any."""
        service = Service(service_name, query.group_name, query.namespace_id)
        document = await self._read("get_instances", service, {}, self._timeout)
        return _filter(self._parse_list(service, document or {}), query)

    def watch_instances(
        self,
        service_name: str,
        listener: InstancesListener,
        query: InstanceQuery = _ANY_INSTANCE,
    ) -> Unsubscribe:
        """Call the listener with the present instances, then on each change.

        While no server responds, the listener is not called.
        """
        self._refuse_when_closed()
        service = Service(service_name, query.group_name, query.namespace_id)
        delivery, remove = self._watchers.add((service, query), listener)
        if service in self._watched_lists:
            delivery.notify(_filter(self._watched_lists[service], query))
        if service not in self._polls:
            # No supervisor: `_keep_polling` logs every error itself, and ends only when cancelled.
            task = asyncio.get_running_loop().create_task(self._keep_polling(service))
            self._polls[service] = task

        def unsubscribe() -> None:
            remove()
            if all(watched != service for watched, _ in self._watchers.keys()):  # noqa: SIM118
                self._stop_polling(service)

        return unsubscribe

    async def close(self) -> None:
        """Deregister the own instances, end every watch, join the thread; twice is fine."""
        self._closed = True
        polls = [poll for service in tuple(self._polls) if (poll := self._stop_polling(service))]
        await self._watchers.aclose()
        await asyncio.gather(*polls, return_exceptions=True)
        await asyncio.to_thread(self._keeper.close)
        await self._reader.aclose()

    async def _run_in_keeper(self, work: Callable[[], None]) -> None:
        self._refuse_when_closed()
        await asyncio.wrap_future(self._keeper.submit(work))

    def _refuse_when_closed(self) -> None:
        if self._closed:
            raise ServiceRegistryError(
                "it is closed; open another one", provider="lite", operation="use"
            )

    async def _keep_polling(self, service: Service) -> None:
        version, failures = "", 0
        while True:
            began = time.monotonic()
            try:
                document = await self._read_change(service, version)
                if document is not None:
                    self._notify(service, self._parse_list(service, document))
            except ServiceRegistryError as error:
                failures += 1
                if failures == 1:
                    logger.warning("%s; keeping the last known instances", error)
                await asyncio.sleep(compute_pause(failures, self._rng))
                continue
            except Exception:
                failures += 1
                if failures == 1:
                    logger.exception("polling %s failed; it continues", service.name)
                await asyncio.sleep(compute_pause(failures, self._rng))
                continue
            failures = 0
            previous = version
            if document is not None:
                version = str(document.get("version", ""))
            if version == previous and time.monotonic() - began < _QUICK_SECONDS:
                # A server that shuts down, or one that does not wait, is not polled in a hot loop.
                await asyncio.sleep(compute_pause(1, self._rng))

    async def _read_change(self, service: Service, version: str) -> dict[str, object] | None:
        params = {"watch": "1", "version": version, "timeout": f"{_WATCH_SECONDS}s"}
        # A server adds up to a sixteenth, so that clients do not come back together.
        within_seconds = _WATCH_SECONDS * 17 / 16 + self._timeout
        return await self._read("watch_instances", service, params, within_seconds)

    def _parse_list(self, service: Service, document: dict[str, object]) -> Instances:
        """The instances of a list, with the earlier ones while the server may have forgotten them.

        After a restart a server marks its lists as not settled, until all clients had the time to
        register again.
        """
        instances = parse_instances(service, document)
        epoch = str(document.get("epoch", ""))
        last = self._last_lists.get(service)
        if document.get("settled") is False and last is not None and last[0] != epoch:
            present = {instance.instance_id for instance in instances}
            return instances + tuple(each for each in last[1] if each.instance_id not in present)
        self._last_lists.pop(service, None)  # so that the newest are last, and kept the longest
        self._last_lists[service] = (epoch, instances)
        while len(self._last_lists) > _MAX_LISTS_KEPT:
            del self._last_lists[next(iter(self._last_lists))]
        return instances

    def _remove_from_last_list(self, instance: ServiceInstance) -> None:
        service = Service.from_instance(instance)
        if service in self._last_lists:
            epoch, instances = self._last_lists[service]
            others = tuple(each for each in instances if each.instance_id != instance.instance_id)
            self._last_lists[service] = (epoch, others)

    def _notify(self, service: Service, instances: Instances) -> None:
        self._watched_lists[service] = instances
        for watched, query in self._watchers.keys():  # noqa: SIM118 - not a mapping
            if watched == service:
                self._watchers.notify((service, query), _filter(instances, query))

    def _stop_polling(self, service: Service) -> asyncio.Task[None] | None:
        self._watched_lists.pop(service, None)
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

    Settings: `url` (required), `token`, `ttl_seconds`, `timeout_seconds`; see `LiteServiceRegistry`.

    Raises:
        InvalidValueError: a setting is unknown, missing or breaks a rule.
    """
    refuse_unknown_settings("lite", settings, _SETTINGS)
    options = {name: value for name, value in settings.items() if name != "url"}
    url = cast("str | Sequence[str]", settings.get("url", ""))
    async with LiteServiceRegistry(url, **options) as registry:  # type: ignore[arg-type]
        yield registry


def _parse_addresses(url: object) -> tuple[str, ...]:
    parts = url.split(",") if isinstance(url, str) else url
    rule = "one or more addresses such as 'http://lite-registry:8080'"
    if not isinstance(parts, Sequence) or not parts:
        raise InvalidValueError("url", url, rule)
    addresses = tuple(_parse_address(part, rule) for part in parts)
    return tuple(dict.fromkeys(addresses))


def _parse_address(url: object, rule: str) -> str:
    text = url.strip().rstrip("/") if isinstance(url, str) else ""
    with contextlib.suppress(ValueError):
        parts = urlsplit(text)
        is_plain = not (parts.query or parts.fragment or parts.username or parts.password)
        if parts.scheme in {"http", "https"} and parts.hostname and is_plain and parts.port != 0:
            return text
    raise InvalidValueError("url", _hide_credentials(url), rule)


def _hide_credentials(url: object) -> object:
    return url.rpartition("@")[2] if isinstance(url, str) else url


def _validate_seconds(name: str, value: object, *, lowest: float) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not lowest <= cast(float, value) <= 3600:
        raise InvalidValueError(name, value, f"a number of seconds from {lowest:g} to 3600")
    return float(cast(float, value))


def _validate_token(token: object) -> str:
    if not isinstance(token, str) or not token.isascii() or not token.isprintable():
        raise InvalidValueError("token", "<hidden>", "printable ASCII")
    return token


def _filter(instances: Instances, query: InstanceQuery) -> Instances:
    return tuple(instance for instance in instances if query.matches(instance))
