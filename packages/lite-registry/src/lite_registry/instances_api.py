"""Leased instances over HTTP: `/v1/instances`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from .change_history import ChangeHistory
from .change_notifier import ChangeNotifier
from .conditional_response import VersionedDocument
from .errors import Problem
from .instance import Instance, ServiceKey, parse_instance, validate_instance_id
from .lease_store import LeaseStore
from .metrics import Metrics
from .published_routes import format_rfc3339
from .request import Outcome, Request
from .request_parsing import Query, parse_precondition, parse_service_key
from .resources import Resource
from .response import Response, build_json_response, encode_json
from .routes import compute_fingerprint
from .tokens import TokenSource
from .watching import Watches

__all__ = ("InstancesApi",)

_HISTORY_DELAY_SECONDS = 0.05


class _CachedList(NamedTuple):
    """The document of a service's instances.

    Attributes:
        settled: what it says about the server; it is rendered again when that has changed.
    """

    document: VersionedDocument
    settled: bool


class InstancesApi:
    """Registers, renews and lists instances, and wakes the watchers of the lists.

    Args:
        on_change: called after each change of any instance.

    Attributes:
        settled: whether the clients of an earlier server had the time to register with this one,
            so that an instance that is missing is gone. Until `settle`, lists say that it is not.
    """

    def __init__(
        self,
        store: LeaseStore,
        changes: ChangeNotifier,
        history: ChangeHistory,
        watches: Watches,
        *,
        tokens: TokenSource,
        metrics: Metrics,
        on_change: Callable[[], None],
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._changes = changes
        self._history = history
        self._watches = watches
        self._tokens = tokens
        self._on_change = on_change
        self._wall_clock = wall_clock
        self._lists: dict[ServiceKey, _CachedList] = {}
        self._unrecorded: set[ServiceKey] = set()
        self._recorded_ids: dict[ServiceKey, frozenset[str]] = {}
        self._updated_at: dict[ServiceKey, float] = {}
        self.settled = False
        store.start(self._handle_change, metrics)

    def build_resources(self) -> tuple[Resource, ...]:
        """The resources with their handlers."""
        return (
            Resource("/v1/instances", {"GET": self._list_services}),
            Resource("/v1/instances/{service}", {"GET": self._list_instances}),
            Resource(
                "/v1/instances/{service}/{instance_id}",
                {"GET": self._read, "PUT": self._put, "DELETE": self._delete},
            ),
            Resource("/v1/instances/{service}/{instance_id}/renew", {"POST": self._renew}),
        )

    def settle(self) -> None:
        """Mark lists as settled from now on, and wake the watchers of all lists."""
        self.settled = True
        self._changes.notify_all()

    def _list_services(self, _request: Request, _query: Query, _: Sequence[str]) -> Response:
        counts = [
            {
                "service": key.name,
                "group": key.group,
                "namespace": key.namespace,
                "instances": count,
            }
            for key in self._store.list_services()
            if (count := len(self._store.list_instances(key)))
        ]
        return build_json_response(200, {"services": counts}, (("cache-control", "no-cache"),))

    def _list_instances(self, request: Request, query: Query, variables: Sequence[str]) -> Outcome:
        key = parse_service_key(variables[0], query)
        return self._watches.respond(request, query, key, lambda: self._get_list(key))

    def _get_list(self, key: ServiceKey) -> VersionedDocument:
        # What was restored from a snapshot may be dead, until it renews.
        settled = self.settled and not self._store.list_unconfirmed(key)
        cached = self._lists.get(key)
        if cached is not None and cached.settled is settled:
            return cached.document
        overdue = self._store.list_overdue(key)
        instances = [
            _build_entry(instance, is_overdue=instance.id in overdue)
            for instance in self._store.list_instances(key)
        ]
        version = compute_fingerprint([self._store.epoch, instances])
        if not settled:
            # A version of its own, so that a watch ends when the list has settled.
            version += "~"
        updated_at = self._updated_at.get(key)
        content = {
            "service": key.name,
            "group": key.group,
            "namespace": key.namespace,
            "version": version,
            "epoch": self._store.epoch,
            "settled": settled,
            "self_preservation": self._store.preserving,
            "updated_at": None if updated_at is None else format_rfc3339(updated_at),
            "instances": instances,
        }
        document = VersionedDocument(version, encode_json(content))
        if instances:  # lists of services without instances would fill the memory
            self._lists[key] = _CachedList(document, settled)
        return document

    def _read(self, _request: Request, query: Query, variables: Sequence[str]) -> Response:
        key, instance_id = _parse_target(query, variables)
        instance = self._store.find(key, instance_id)
        if instance is None:
            detail = f"service {key.name!r} has no instance {instance_id!r}; register it with PUT"
            raise Problem(404, "Not registered", detail)
        return _build_registration(200, instance)

    def _put(self, request: Request, query: Query, variables: Sequence[str]) -> Awaitable[Response]:
        key, instance_id = _parse_target(query, variables)
        self._tokens.authorize(request.get_header(b"authorization"))
        return self._store_instance(request, key, parse_instance(instance_id, request.body))

    async def _store_instance(
        self, request: Request, key: ServiceKey, instance: Instance
    ) -> Response:
        is_new = await self._store.put(key, instance, parse_precondition(request))
        return _build_registration(201 if is_new else 200, instance)

    def _delete(
        self, request: Request, query: Query, variables: Sequence[str]
    ) -> Awaitable[Response]:
        key, instance_id = _parse_target(query, variables)
        self._tokens.authorize(request.get_header(b"authorization"))
        return self._remove_instance(request, key, instance_id)

    async def _remove_instance(
        self, request: Request, key: ServiceKey, instance_id: str
    ) -> Response:
        await self._store.remove(key, instance_id, parse_precondition(request))
        return Response(204)

    def _renew(
        self, request: Request, query: Query, variables: Sequence[str]
    ) -> Awaitable[Response]:
        self._tokens.authorize(request.get_header(b"authorization"))
        return self._renew_instance(*_parse_target(query, variables))

    async def _renew_instance(self, key: ServiceKey, instance_id: str) -> Response:
        instance = await self._store.renew(key, instance_id)
        return Response(204, headers=(("etag", f'"{instance.etag}"'),))

    def _handle_change(self, key: ServiceKey) -> None:
        self._on_change()
        self._lists.pop(key, None)
        self._updated_at[key] = self._wall_clock()
        self._changes.notify(key)
        if not self._unrecorded:
            asyncio.get_running_loop().call_later(_HISTORY_DELAY_SECONDS, self._record_changes)
        self._unrecorded.add(key)

    def _record_changes(self) -> None:
        keys, self._unrecorded = self._unrecorded, set()
        for key in keys:
            before = self._recorded_ids.pop(key, frozenset())
            after = frozenset(instance.id for instance in self._store.list_instances(key))
            if after:
                self._recorded_ids[key] = after
            else:
                self._updated_at.pop(key, None)
            changes = [f"instance {each} registered" for each in sorted(after - before)]
            changes += [f"instance {each} gone" for each in sorted(before - after)]
            self._history.add(key.name, changes or ["an instance changed"])


def _build_entry(instance: Instance, *, is_overdue: bool) -> dict[str, object]:
    entry = {**instance.to_document(), "etag": instance.etag}
    return {**entry, "overdue": True} if is_overdue else entry


def _parse_target(query: Query, variables: Sequence[str]) -> tuple[ServiceKey, str]:
    service, instance_id = variables
    return parse_service_key(service, query), validate_instance_id(instance_id)


def _build_registration(status: int, instance: Instance) -> Response:
    document = {**instance.to_document(), "etag": instance.etag}
    return build_json_response(status, document, (("etag", f'"{instance.etag}"'),))
