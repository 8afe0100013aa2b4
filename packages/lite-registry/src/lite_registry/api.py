"""The HTTP interface: which path does what.

Wire formats are written down in docs/lite-registry/wire-format.md.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, ClassVar, Protocol

from .asking import (
    Query,
    not_allowed,
    only_read,
    parse_query,
    path_segments,
    precondition_of,
    service_key,
    wait_seconds,
)
from .document import Document, entity_tags
from .errors import Problem
from .history import History, route_changes
from .instance import Instance, ServiceKey, check_instance_id, parse_instance
from .leases import ANY_STATE, Precondition
from .problem import problem_response
from .published import PublishedRoutes, rfc3339
from .response import Response, StreamResponse, json_bytes, json_response
from .routes import NO_ROUTES, RouteTable, fingerprint

if TYPE_CHECKING:
    from .changes import Changes
    from .http import Answer, Request
    from .metrics import Metrics
    from .tokens import TokenSource

__all__ = ("Api", "LeaseStore")

ALL_ROUTES = "/v1/routes"
STATUS = "/v1/status"
HEARTBEAT_SECONDS = 15.0
NOTE_SECONDS = 0.05


class LeaseStore(Protocol):
    """Where leased instances are kept: reads are answered from memory, writes may wait."""

    epoch: str
    """Changes when everything registered so far may be lost."""

    @property
    def preserving(self) -> bool: ...
    def start(self, listener: Callable[[ServiceKey], None], metrics: Metrics) -> None: ...
    def services(self) -> list[ServiceKey]: ...
    def instances(self, key: ServiceKey) -> list[Instance]: ...
    def find(self, key: ServiceKey, instance_id: str) -> Instance | None: ...
    def __len__(self) -> int: ...
    async def put(
        self, key: ServiceKey, instance: Instance, precondition: Precondition = ANY_STATE
    ) -> bool: ...
    async def renew(self, key: ServiceKey, instance_id: str) -> Instance: ...
    async def remove(
        self, key: ServiceKey, instance_id: str, precondition: Precondition = ANY_STATE
    ) -> bool: ...
    async def run(self) -> None: ...


class Api:
    """Answers requests from the published routes and the lease store."""

    def __init__(
        self,
        published: PublishedRoutes,
        store: LeaseStore,
        changes: Changes,
        tokens: TokenSource,
        metrics: Metrics,
        *,
        settle_seconds: float = 20.0,
        on_change: Callable[[], None] = lambda: None,
        wall_clock: Callable[[], float] = time.time,
        rng: random.Random | None = None,
    ) -> None:
        self._published = published
        self._store = store
        self._changes = changes
        self._tokens = tokens
        self._metrics = metrics
        self._on_change = on_change
        self._wall_clock = wall_clock
        self._rng = rng or random.Random()
        self._history = History(wall_clock=wall_clock)
        self._lists: dict[ServiceKey, Document] = {}
        self._unnoted: set[ServiceKey] = set()
        self._ids: dict[ServiceKey, frozenset[str]] = {}
        self._updated_at: dict[ServiceKey, float] = {}
        self._settles_at = wall_clock() + settle_seconds
        self.draining = False
        published.listen(self._routes_changed)
        store.start(self._instances_changed, metrics)

    def handle(self, request: Request) -> Answer | Awaitable[Answer]:
        """Answer a request; a problem becomes its document."""
        try:
            answer = self._dispatch(request)
        except Problem as problem:
            answer = problem_response(problem)
        if isinstance(answer, Response | StreamResponse):
            return self._counted(request, answer)
        return self._finish(request, answer)

    async def _finish(self, request: Request, coming: Awaitable[Answer]) -> Answer:
        try:
            answer = await coming
        except Problem as problem:
            answer = problem_response(problem)
        return self._counted(request, answer)

    def _counted(self, request: Request, answer: Answer) -> Answer:
        self._metrics.count("http_requests", path=request.template, status=str(answer.status))
        return answer

    def _dispatch(self, request: Request) -> Answer | Awaitable[Answer]:
        if request.target == b"/v1/routes" and request.method in {"GET", "HEAD"}:
            request.template = ALL_ROUTES
            if b"accept" not in request.headers or b"event" not in request.headers[b"accept"]:
                return self._whole().answer(request)
        path, _, query = request.target.partition(b"?")
        match path_segments(path):
            case ["v1", "instances", service, instance_id, "renew"]:
                request.template = "/v1/instances/{service}/{instance_id}/renew"
                return self._renewal(request, service, instance_id, parse_query(query))
            case ["v1", "instances", service, instance_id]:
                request.template = "/v1/instances/{service}/{instance_id}"
                return self._instance(request, service, instance_id, parse_query(query))
            case segments:
                return self._read(only_read(request), segments, parse_query(query))

    def _read(
        self, request: Request, segments: list[str], query: Query
    ) -> Answer | Awaitable[Answer]:
        match segments:
            case ["v1", "routes"]:
                request.template = ALL_ROUTES
                return self._routes(request, query)
            case ["v1", "routes", service]:
                request.template = "/v1/routes/{service}"
                return self._route(request, service, query)
            case ["v1", "instances"]:
                request.template = "/v1/instances"
                return self._services()
            case ["v1", "instances", service]:
                request.template = "/v1/instances/{service}"
                return self._instances(request, service, query)
            case ["v1", "status"]:
                request.template = STATUS
                return self._watchable(request, query, STATUS, self._status)
            case [name] if name in self._pages:
                request.template = f"/{name}"
                return self._pages[name](self)
        raise Problem(404, "Not found", "there is nothing at this path; see /openapi.json")

    def _health(self) -> Response:
        return json_response(200, {"status": "ok"})

    def _readiness(self) -> Response:
        if self.draining:
            return json_response(503, {"status": "draining"})
        if not self._published.ready:
            return json_response(503, {"status": "waiting for the first routes"})
        source = "live" if self._published.live else "disk"
        told = {"status": "ok", "stale": self._published.stale, "source": source}
        return json_response(200, told)

    def _prometheus(self) -> Response:
        return Response(200, self._metrics.render(), "text/plain; version=0.0.4; charset=utf-8")

    def _openapi(self) -> Response:
        return Response(200, _file("openapi.json"), "application/json")

    def _page(self) -> Response:
        policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
        policy += "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        fields = (
            ("content-security-policy", policy),
            ("cache-control", "no-cache"),
            ("x-content-type-options", "nosniff"),
        )
        return Response(200, _file("status.html"), "text/html; charset=utf-8", fields)

    _pages: ClassVar[dict[str, Callable[[Api], Response]]] = {
        "": _page,
        "healthz": _health,
        "readyz": _readiness,
        "metrics": _prometheus,
        "openapi.json": _openapi,
    }

    # routes

    def _routes(self, request: Request, query: Query) -> Answer | Awaitable[Answer]:
        return self._watchable(request, query, ALL_ROUTES, self._whole)

    def _whole(self) -> Document:
        """All routes; before the first ones are known, that is said, and never "none"."""
        if not self._published.ready:
            raise Problem(
                503,
                "Not ready",
                "the source of routes was not seen yet; try again, /readyz tells when",
                headers=(("retry-after", "1"),),
            )
        return self._published.whole()

    def _route(self, request: Request, service: str, query: Query) -> Answer | Awaitable[Answer]:
        def current() -> Document:
            self._whole()
            document = self._published.part(service)
            if document is None:
                raise _no_such_service(service)
            return document

        return self._watchable(request, query, (ALL_ROUTES, service), current)

    def _routes_changed(self, before: RouteTable, after: RouteTable) -> None:
        self._on_change()
        self._changes.announce(ALL_ROUTES)
        self._changes.announce(STATUS)
        for name in before.versions.keys() | after.versions.keys():
            if before.versions.get(name) != after.versions.get(name):
                self._changes.announce((ALL_ROUTES, name))
                if before is not NO_ROUTES:  # what was there at the start has not changed
                    self._history.add(name, route_changes(before.routes, after.routes, name))

    # instances

    def _instances(
        self, request: Request, service: str, query: Query
    ) -> Answer | Awaitable[Answer]:
        key = service_key(service, query)
        return self._watchable(request, query, key, lambda: self._list(key))

    def _services(self) -> Response:
        counts = [
            {
                "service": key.name,
                "group": key.group,
                "namespace": key.namespace,
                "instances": count,
            }
            for key in self._store.services()
            if (count := len(self._store.instances(key)))
        ]
        return json_response(200, {"services": counts}, (("cache-control", "no-cache"),))

    def _list(self, key: ServiceKey) -> Document:
        document = self._lists.get(key)
        if document is not None and document.version.endswith("~") is not self.settled:
            return document
        instances = [
            {**instance.document(), "etag": instance.etag}
            for instance in self._store.instances(key)
        ]
        # Its own version while unsettled: so those who watch are told when that is over.
        version = fingerprint([self._store.epoch, instances]) + ("" if self.settled else "~")
        updated_at = self._updated_at.get(key)
        content = {
            "service": key.name,
            "group": key.group,
            "namespace": key.namespace,
            "version": version,
            "epoch": self._store.epoch,
            "settled": self.settled,
            "self_preservation": self._store.preserving,
            "updated_at": None if updated_at is None else rfc3339(updated_at),
            "instances": instances,
        }
        document = Document(version, json_bytes(content))
        if instances:
            self._lists[key] = document
        return document

    @property
    def settled(self) -> bool:
        """Whether everybody who lived before the start had the time to register again."""
        return self._wall_clock() >= self._settles_at

    def settle(self) -> None:
        """Everybody is known already, from a snapshot."""
        self._settles_at = float("-inf")

    def announce_settled(self) -> None:
        """Wake those who watch instances: what is missing now is gone."""
        self._changes.announce_all()

    def _instances_changed(self, key: ServiceKey) -> None:
        self._on_change()
        self._lists.pop(key, None)
        self._updated_at[key] = self._wall_clock()
        self._changes.announce(key)
        self._changes.announce(STATUS)
        if not self._unnoted:
            asyncio.get_running_loop().call_later(NOTE_SECONDS, self._note_changes)
        self._unnoted.add(key)

    def _note_changes(self) -> None:
        changed, self._unnoted = self._unnoted, set()
        for key in changed:
            before = self._ids.pop(key, frozenset())
            after = frozenset(instance.id for instance in self._store.instances(key))
            if after:
                self._ids[key] = after
            else:
                self._updated_at.pop(key, None)
            told = [f"instance {one} registered" for one in sorted(after - before)]
            told += [f"instance {one} gone" for one in sorted(before - after)]
            self._history.add(key.name, told or ["an instance changed"])

    def _status(self) -> Document:
        """Everything the status page shows."""
        content = {
            "routes": self._published.table.documents,
            "stale": self._published.stale,
            "live": self._published.live,
            "synced_at": rfc3339(self._published.times[1]),
            "ages": self._published.ages,
            "self_preservation": self._store.preserving,
            "instances": [
                {
                    "service": key.name,
                    "group": key.group,
                    "namespace": key.namespace,
                    "instances": [one.document() for one in self._store.instances(key)],
                }
                for key in self._store.services()
            ],
            "changes": self._history.document(),
        }
        told = {name: part for name, part in content.items() if name != "synced_at"}
        return Document(fingerprint(told), json_bytes(content))

    def _instance(
        self, request: Request, service: str, instance_id: str, query: Query
    ) -> Answer | Awaitable[Answer]:
        key = service_key(service, query)
        check_instance_id(instance_id)
        match request.method:
            case "GET" | "HEAD":
                return self._registration(key, instance_id)
            case "PUT":
                self._tokens.check(request.header(b"authorization"))
                return self._put(request, key, parse_instance(instance_id, request.body))
            case "DELETE":
                self._tokens.check(request.header(b"authorization"))
                return self._delete(request, key, instance_id)
        raise not_allowed("GET, HEAD, PUT, DELETE")

    def _registration(self, key: ServiceKey, instance_id: str) -> Response:
        instance = self._store.find(key, instance_id)
        if instance is None:
            detail = f"service {key.name!r} has no instance {instance_id!r}; register it with PUT"
            raise Problem(404, "Not registered", detail)
        return _registered(200, instance)

    async def _put(self, request: Request, key: ServiceKey, instance: Instance) -> Response:
        created = await self._store.put(key, instance, precondition_of(request))
        return _registered(201 if created else 200, instance)

    async def _delete(self, request: Request, key: ServiceKey, instance_id: str) -> Response:
        await self._store.remove(key, instance_id, precondition_of(request))
        return Response(204)

    def _renewal(
        self, request: Request, service: str, instance_id: str, query: Query
    ) -> Awaitable[Answer]:
        if request.method != "POST":
            raise not_allowed("POST")
        self._tokens.check(request.header(b"authorization"))
        return self._renew(service_key(service, query), check_instance_id(instance_id))

    async def _renew(self, key: ServiceKey, instance_id: str) -> Response:
        instance = await self._store.renew(key, instance_id)
        return Response(204, headers=(("etag", f'"{instance.etag}"'),))

    # waiting for a change

    def _watchable(
        self, request: Request, query: Query, key: Hashable, current: Callable[[], Document]
    ) -> Answer | Awaitable[Answer]:
        if query.get("watch", "0") in {"0", "false"}:
            if "text/event-stream" in request.header(b"accept"):
                current()
                return StreamResponse(
                    self._server_sent(key, current),
                    "text/event-stream",
                    (("cache-control", "no-cache"), ("x-accel-buffering", "no")),
                )
            return current().answer(request)
        seconds = wait_seconds(query.get("timeout"))
        known = query.get("version") or ",".join(entity_tags(request.header(b"if-none-match")))
        document = current()
        if document.version != known or self.draining:
            return document.answer(request)
        # Spread, so that those who began together do not come back together.
        seconds += self._rng.uniform(0, seconds / 16)
        return self._wait(request, known, key, current, seconds)

    async def _wait(
        self,
        request: Request,
        known: str,
        key: Hashable,
        current: Callable[[], Document],
        seconds: float,
    ) -> Response:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while (document := current()).version == known:
            if not await self._changes.wait(key, deadline - loop.time()):
                return document.not_modified()
        return document.answer(request)

    async def _server_sent(
        self, key: Hashable, current: Callable[[], Document]
    ) -> AsyncIterator[bytes]:
        """Server-sent events: the document now and after each change, a comment when it is quiet."""
        known = ""
        while not self.draining:
            try:
                document = current()
            except Problem:  # the service is gone
                return
            if document.version != known:
                known = document.version
                yield b"id: %b\ndata: %b\n\n" % (known.encode(), document.body)
            elif not await self._changes.wait(key, HEARTBEAT_SECONDS):
                yield b": still here\n\n"


@cache
def _file(name: str) -> bytes:
    return files(__package__).joinpath(name).read_bytes()


def _registered(status: int, instance: Instance) -> Response:
    document = {**instance.document(), "etag": instance.etag}
    return json_response(status, document, (("etag", f'"{instance.etag}"'),))


def _no_such_service(service: str) -> Problem:
    return Problem(
        404,
        "Service not found",
        f"no route is known for {service[:80]!r}; check the name and the labels of its Service",
        extra={"error": "service not found"},
    )
