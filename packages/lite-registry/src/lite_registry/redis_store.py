"""Leases on Redis, so that several replicas share them.

Redis decides: every write is one Lua script there, and leases lapse by its clock. Each replica holds
a copy of everything; a channel names the services that changed. So reading never waits, and works
while Redis is unreachable.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from collections.abc import Callable, Iterable
from typing import cast

import redis.asyncio
from redis.exceptions import RedisError, ResponseError

from .errors import Problem, SettingsError
from .instance import Instance, ServiceKey
from .leases import ANY_STATE, Precondition, build_not_registered
from .metrics import Metrics
from .redis_entries import (
    UnreadableEntries,
    decode_key,
    decode_member,
    encode_key,
    parse_entry,
)
from .redis_scripts import EXPIRE, PUT, REMOVE, RENEW
from .response import encode_json
from .self_preservation import SelfPreservation

__all__ = ("RedisStore",)

logger = logging.getLogger(__name__)

_EXPIRE_INTERVAL_SECONDS = 0.5
_SYNC_INTERVAL_SECONDS = 30.0
_RETRY_SECONDS = 1.0
_TIMEOUT_SECONDS = 3.0
_CANCEL_INTERVAL_SECONDS = 0.2

_PROBLEMS = {
    "present": (412, "Precondition failed", "the instance is registered; leave out If-None-Match"),
    "missing": (412, "Precondition failed", "the instance is not registered; leave out If-Match"),
    "other": (412, "Precondition failed", "the registration has changed; read it again"),
    "full": (507, "Registry full", "every place is taken; raise --capacity"),
}


async def find_problem(url: str) -> str:
    """The reason why the Redis at this URL cannot be used; empty when it responds."""
    store = RedisStore(url)
    try:
        async with asyncio.timeout(_TIMEOUT_SECONDS):
            await store.ping()
    except (RedisError, OSError) as error:
        return str(error) or "it does not respond in time"
    finally:
        await store.aclose()
    return ""


class RedisStore:
    """A `LeaseStore` on one Redis; `run` keeps the local copy and expires leases.

    Args:
        url: `redis://host:port/db`, `rediss://…` or `unix://…`.
        prefix: the beginning of every key; replicas with the same prefix share their leases.
        connect: makes the client from the URL; it has to decode responses.

    Raises:
        SettingsError: the URL is not one of Redis.
    """

    def __init__(
        self,
        url: str,
        *,
        prefix: str = "{lite-registry}:",
        capacity: int = 50_000,
        preservation: SelfPreservation | None = None,
        connect: Callable[[str], redis.asyncio.Redis] | None = None,
    ) -> None:
        try:
            self._redis = (connect or _connect)(url)
        except ValueError as error:
            raise SettingsError(
                "--store must be memory or a url such as redis://host:6379/0"
            ) from error
        self._prefix = prefix
        self._capacity = capacity
        self._preservation = preservation or SelfPreservation()
        self._copy: dict[ServiceKey, dict[str, Instance]] = {}
        self._listener: Callable[[ServiceKey], None] = lambda _: None
        self._dirty: set[str] = set()
        self._wake_refresh = asyncio.Event()
        self._refreshed: asyncio.Future[None] | None = None
        self._put_script = self._redis.register_script(PUT)
        self._renew_script = self._redis.register_script(RENEW)
        self._remove_script = self._redis.register_script(REMOVE)
        self._expire_script = self._redis.register_script(EXPIRE)
        self.epoch = "redis"
        self.preserving = False
        self._overdue: dict[ServiceKey, frozenset[str]] = {}
        self.reachable = False
        self._lapsed = 0
        self._failures = 0
        self._is_loss_logged = False
        self._unreadable = UnreadableEntries()

    def start(self, listener: Callable[[ServiceKey], None], metrics: Metrics) -> None:
        """Call the listener with the key of each service whose instances change."""
        self._listener = listener
        metrics.add_gauge("leases_lapsed", lambda: [({}, self._lapsed)])
        metrics.add_gauge("store_failures", lambda: [({}, self._failures)])
        metrics.add_gauge("store_unreadable", lambda: [({}, self._unreadable.count)])

    # reading, from the copy

    def list_services(self) -> list[ServiceKey]:
        """Every service that has an instance, sorted."""
        return sorted(self._copy)

    def list_instances(self, key: ServiceKey) -> list[Instance]:
        """The service's instances, sorted by id."""
        instances = self._copy.get(key, {})
        return [instances[instance_id] for instance_id in sorted(instances)]

    def find(self, key: ServiceKey, instance_id: str) -> Instance | None:
        """The registration of that instance; None when there is none."""
        return self._copy.get(key, {}).get(instance_id)

    def list_overdue(self, key: ServiceKey) -> frozenset[str]:
        """The ids of the service's instances whose lease has lapsed and is kept."""
        return self._overdue.get(key, frozenset())

    def list_unconfirmed(self, key: ServiceKey) -> frozenset[str]:
        """Empty: Redis keeps the time of the leases across restarts."""
        return frozenset()

    def __len__(self) -> int:
        return sum(map(len, self._copy.values()))

    # writing, in Redis

    async def put(
        self, key: ServiceKey, instance: Instance, precondition: Precondition = ANY_STATE
    ) -> bool:
        """Register the instance, or renew it with a full document; returns whether it is new."""
        arguments: list[str | int] = [
            encode_json(instance.to_document()).decode(),
            instance.etag,
            int(instance.ttl_seconds * 1000) if instance.ephemeral else 0,
            self._capacity,
            int(precondition.absent),
            json.dumps(precondition.if_match),
        ]
        outcome = str(await self._run_script(self._put_script, key, instance.id, arguments))
        if outcome in _PROBLEMS:
            raise Problem(*_PROBLEMS[outcome])
        if outcome != "same" or self.find(key, instance.id) != instance:
            await self._wait_for_copy(key)
        return outcome == "created"

    async def renew(self, key: ServiceKey, instance_id: str) -> Instance:
        """Restart the time of the lease."""
        present = await self._run_script(self._renew_script, key, instance_id, [])
        if present is None:
            raise build_not_registered(key, instance_id)
        instance = parse_entry(instance_id, str(present))
        if instance is None:  # what the client registers next is in a form that this replica reads
            raise build_not_registered(key, instance_id)
        return instance

    async def remove(
        self, key: ServiceKey, instance_id: str, precondition: Precondition = ANY_STATE
    ) -> bool:
        """Remove the instance; returns whether it existed."""
        arguments: list[str | int] = [json.dumps(precondition.if_match)]
        outcome = str(await self._run_script(self._remove_script, key, instance_id, arguments))
        if outcome in _PROBLEMS:
            raise Problem(*_PROBLEMS[outcome])
        if outcome == "removed":
            await self._wait_for_copy(key)
        return outcome == "removed"

    async def _run_script(
        self,
        script: redis.commands.core.AsyncScript,
        key: ServiceKey,
        instance_id: str,
        arguments: list[str | int],
    ) -> object:
        service = encode_key(key)
        keys = [
            self._build_key("lapses"),
            self._build_key("services"),
            self._build_key(f"service:{service}"),
            self._build_key("registered"),
        ]
        try:
            return await script(
                keys=keys, args=[service, instance_id, self._build_key("changes"), *arguments]
            )
        except (RedisError, OSError) as error:
            self._failures += 1
            raise Problem(
                503,
                "Store unavailable",
                "the store of leases does not respond; try again",
                headers=(("retry-after", "1"),),
            ) from error

    async def _wait_for_copy(self, key: ServiceKey) -> None:
        """Wait until the copy holds the write, so that its client can read it at once."""
        self._dirty.add(encode_key(key))
        self._wake_refresh.set()
        if self._refreshed is None:
            self._refreshed = asyncio.get_running_loop().create_future()
        async with asyncio.timeout(_TIMEOUT_SECONDS):
            await asyncio.shield(self._refreshed)

    # the copy

    async def run(self) -> None:
        """Follow Redis and expire leases, until cancelled."""
        work = self._follow_changes(), self._keep_refreshing(), self._keep_expiring()
        # The first that ends, ends them all, and this with its error: the server's supervisor logs
        # it and calls `run` again.
        tasks = [asyncio.ensure_future(each) for each in work]
        try:
            ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in ended:
                task.result()
        finally:
            await _cancel(tasks)
            await self.aclose()

    async def ping(self) -> None:
        """Check that Redis responds.

        Raises:
            RedisError, OSError: it does not.
        """
        await self._redis.ping()

    async def aclose(self) -> None:
        """Close every connection."""
        await self._redis.aclose()

    async def _follow_changes(self) -> None:
        while True:
            try:
                async with self._redis.pubsub() as channel:
                    await channel.subscribe(self._build_key("changes"))
                    await self._listen(channel)
            except (RedisError, OSError) as error:
                self._record_loss(error)
                await asyncio.sleep(_RETRY_SECONDS)

    async def _listen(self, channel: redis.asyncio.client.PubSub) -> None:
        loop = asyncio.get_running_loop()
        sync_at = loop.time()
        while True:
            if loop.time() >= sync_at:
                await self._sync()
                sync_at = loop.time() + _SYNC_INTERVAL_SECONDS
            message = await channel.get_message(ignore_subscribe_messages=True, timeout=1.0)
            if message is not None and self._decode(str(message["data"])) is not None:
                self._dirty.add(str(message["data"]))
                self._wake_refresh.set()

    async def _sync(self) -> None:
        """Have every service read again, also those that only the copy has."""
        epoch_key = self._build_key("epoch")
        await self._redis.set(epoch_key, secrets.token_hex(8), nx=True)
        self.epoch = str(await self._redis.get(epoch_key))
        names = await self._redis.hkeys(self._build_key("services"))
        self._dirty.update(name for name in cast("list[str]", names) if self._decode(name))
        self._dirty.update(map(encode_key, self._copy))
        self._wake_refresh.set()
        if not self.reachable:
            logger.info("the store of leases responds")
        self._is_loss_logged = False
        self.reachable = True

    async def _keep_refreshing(self) -> None:
        """Read what has changed; the only writer of the copy, so that none overwrites newer data."""
        while True:
            await self._wake_refresh.wait()
            self._wake_refresh.clear()
            services, self._dirty = sorted(self._dirty), set()
            refreshed, self._refreshed = self._refreshed, None
            try:
                await self._fetch(services)
            except (RedisError, OSError):
                self._dirty.update(services)
                self._failures += 1
                await asyncio.sleep(_RETRY_SECONDS)
                self._wake_refresh.set()
            finally:
                if refreshed is not None and not refreshed.done():
                    refreshed.set_result(None)

    async def _fetch(self, services: list[str]) -> None:
        async with self._redis.pipeline(transaction=False) as pipeline:
            for service in services:
                pipeline.hgetall(self._build_key(f"service:{service}"))  # type: ignore[unused-awaitable]
            contents = await pipeline.execute(raise_on_error=False)
        for service, entries in zip(services, contents, strict=True):
            key = self._decode(service)
            if isinstance(entries, ResponseError) and str(entries).startswith("WRONGTYPE"):
                self._unreadable.record(service, {""})
            elif isinstance(entries, Exception):
                raise entries
            elif key is not None:
                self._update_copy(key, cast("dict[str, str]", entries))

    def _decode(self, service: str) -> ServiceKey | None:
        """The service of that name; None, which is counted, when it names none."""
        key = decode_key(service)
        if key is None:
            self._unreadable.record_message(service)
        return key

    def _update_copy(self, key: ServiceKey, entries: dict[str, str]) -> None:
        present = self._copy.get(key, {})
        instances: dict[str, Instance] = {}
        unreadable: set[str] = set()
        for instance_id, entry in entries.items():
            before = present.get(instance_id)
            is_same = before is not None and before.etag == entry[:16]
            instance = before if is_same else parse_entry(instance_id, entry)
            if instance is None:
                unreadable.add(instance_id)
                instance = before  # what could be read last; it is still registered
            if instance is not None:
                instances[instance_id] = instance
        self._unreadable.record(encode_key(key), unreadable)
        if instances == present:
            return
        if instances:
            self._copy[key] = instances
        else:
            del self._copy[key]
        self._listener(key)

    async def _keep_expiring(self) -> None:
        rules = self._preservation
        keys = [
            self._build_key("lapses"),
            self._build_key("services"),
            self._build_key("lapsed-lately"),
            self._build_key("registered"),
        ]
        arguments: list[str | float] = [self._build_key("changes"), self._build_key("service:")]
        arguments += [rules.share, rules.least]
        arguments += [int(rules.window_seconds * 1000), int(rules.longest_seconds * 1000)]
        while True:
            try:
                lapsed, overdue = await self._expire_script(keys=keys, args=arguments)
                self._lapsed += int(lapsed)
                self._mark_overdue(overdue)
            except (RedisError, OSError):
                self._failures += 1
            await asyncio.sleep(_EXPIRE_INTERVAL_SECONDS)

    def _mark_overdue(self, members: Iterable[str]) -> None:
        """Take over which leases have lapsed and are kept; none while nothing is preserved."""
        overdue: dict[ServiceKey, set[str]] = {}
        for member in members:
            place = decode_member(member)
            if place is not None:
                overdue.setdefault(place[0], set()).add(place[1])
        before = self._overdue
        self._overdue = {key: frozenset(ids) for key, ids in overdue.items()}
        self.preserving = bool(self._overdue)
        for key in before.keys() | self._overdue.keys():
            if before.get(key) != self._overdue.get(key):
                self._listener(key)

    def _record_loss(self, error: Exception) -> None:
        # Called only by the task that follows the channel, which then reads everything again, with
        # whatever was missed. The failures of the other tasks are counted.
        self._failures += 1
        if not self._is_loss_logged:
            logger.warning(
                "the store of leases refuses or does not respond (%s); serving the local copy, "
                "writes get 503",
                str(error) or type(error).__name__,
            )
        self._is_loss_logged = True
        self.reachable = False

    def _build_key(self, name: str) -> str:
        return self._prefix + name


def _connect(url: str) -> redis.asyncio.Redis:
    return redis.asyncio.Redis.from_url(
        url,
        decode_responses=True,
        encoding_errors="replace",  # what is no UTF-8 is then an entry that cannot be read
        socket_timeout=_TIMEOUT_SECONDS,
        socket_connect_timeout=_TIMEOUT_SECONDS,
    )


async def _cancel(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancel the tasks, repeatedly until they end.

    Before Python 3.12 `asyncio.wait_for`, which the client uses, loses a cancellation that comes at
    the moment it is done: https://github.com/python/cpython/issues/86296.
    """
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=_CANCEL_INTERVAL_SECONDS)
