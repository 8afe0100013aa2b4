"""The HTTP interface: which path does what.

Wire formats are written down in docs/lite-registry/wire-format.md.
"""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections.abc import Awaitable, Callable, Hashable
from typing import Protocol
from urllib.parse import parse_qsl, unquote_to_bytes

from .changes import Changes
from .document import Document, entity_tags
from .errors import Problem
from .http import Answer, Request
from .instance import Instance, ServiceKey, check_instance_id, check_name, parse_instance
from .leases import ANY_STATE, Lease, Precondition
from .problem import problem_response
from .published import PublishedRoutes, rfc3339
from .response import Response, json_bytes, json_response
from .routes import fingerprint
from .tokens import Tokens

__all__ = ("Api", "LeaseStore")

ALL_ROUTES = "/v1/routes"
LONGEST_WAIT_SECONDS = 600.0
DEFAULT_WAIT_SECONDS = 55.0

_DURATION = re.compile(r"(\d{1,6}(?:\.\d{1,3})?)(ms|s|m)?")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, None: 1.0}

Query = dict[str, str]


class LeaseStore(Protocol):
    """Where leased instances are kept: reads are answered from memory, writes may wait."""

    def listen(self, listener: Callable[[ServiceKey], None]) -> None: ...
    def services(self) -> list[ServiceKey]: ...
    def instances(self, key: ServiceKey) -> list[Instance]: ...
    def find(self, key: ServiceKey, instance_id: str) -> Instance | None: ...
    def __len__(self) -> int: ...
    async def put(
        self, key: ServiceKey, instance: Instance, precondition: Precondition = ANY_STATE
    ) -> bool: ...
    async def renew(self, key: ServiceKey, instance_id: str) -> Lease: ...
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
        tokens: Tokens,
        *,
        wall_clock: Callable[[], float] = time.time,
        rng: random.Random | None = None,
    ) -> None:
        self._published = published
        self._store = store
        self._changes = changes
        self._tokens = tokens
        self._wall_clock = wall_clock
        self._rng = rng or random.Random()
        self._lists: dict[ServiceKey, Document] = {}
        self._updated_at: dict[ServiceKey, float] = {}
        self.draining = False
        published.listen(self._routes_changed)
        store.listen(self._instances_changed)

    def handle(self, request: Request) -> Answer | Awaitable[Answer]:
        """Answer a request; a problem becomes its document."""
        try:
            return self._dispatch(request)
        except Problem as problem:
            return problem_response(problem)

    def _dispatch(self, request: Request) -> Answer | Awaitable[Answer]:  # noqa: PLR0911
        if request.target == b"/v1/routes" and request.method in {"GET", "HEAD"}:
            return self._published.whole().answer(request)
        path, _, query = request.target.partition(b"?")
        match _segments(path):
            case ["healthz"]:
                return _reading(request, self._health)
            case ["readyz"]:
                return _reading(request, self._readiness)
            case ["v1", "routes"]:
                return self._routes(_only_read(request), _query(query))
            case ["v1", "routes", service]:
                return self._route(_only_read(request), service, _query(query))
            case ["v1", "instances", service]:
                return self._instances(_only_read(request), service, _query(query))
            case ["v1", "instances", service, instance_id]:
                return self._instance(request, service, instance_id, _query(query))
            case ["v1", "instances", service, instance_id, "renew"]:
                return self._renewal(request, service, instance_id, _query(query))
        raise Problem(404, "Not found", "there is nothing at this path; see /openapi.json")

    def _health(self) -> Response:
        return json_response(200, {"status": "ok"})

    def _readiness(self) -> Response:
        if self.draining:
            return json_response(503, {"status": "draining"})
        if not self._published.ready:
            return json_response(503, {"status": "waiting for the first routes"})
        return json_response(200, {"status": "ok", "stale": self._published.stale})

    # routes

    def _routes(self, request: Request, query: Query) -> Answer | Awaitable[Answer]:
        return self._watchable(request, query, ALL_ROUTES, self._published.whole)

    def _route(self, request: Request, service: str, query: Query) -> Answer | Awaitable[Answer]:
        def current() -> Document:
            document = self._published.part(service)
            if document is None:
                raise _no_such_service(service)
            return document

        return self._watchable(request, query, (ALL_ROUTES, service), current)

    def _routes_changed(self, services: set[str]) -> None:
        self._changes.announce(ALL_ROUTES)
        for service in services:
            self._changes.announce((ALL_ROUTES, service))

    # instances

    def _instances(
        self, request: Request, service: str, query: Query
    ) -> Answer | Awaitable[Answer]:
        key = _key(service, query)
        return self._watchable(request, query, key, lambda: self._list(key))

    def _list(self, key: ServiceKey) -> Document:
        document = self._lists.get(key)
        if document is not None:
            return document
        instances = [
            {**instance.document(), "etag": instance.etag}
            for instance in self._store.instances(key)
        ]
        version = fingerprint(instances)
        updated_at = self._updated_at.get(key)
        content = {
            "service": key.name,
            "group": key.group,
            "namespace": key.namespace,
            "version": version,
            "updated_at": None if updated_at is None else rfc3339(updated_at),
            "instances": instances,
        }
        document = Document(version, json_bytes(content))
        if instances:
            self._lists[key] = document
        return document

    def _instances_changed(self, key: ServiceKey) -> None:
        self._lists.pop(key, None)
        if self._store.instances(key):
            self._updated_at[key] = self._wall_clock()
        else:
            self._updated_at.pop(key, None)
        self._changes.announce(key)

    def _instance(
        self, request: Request, service: str, instance_id: str, query: Query
    ) -> Answer | Awaitable[Answer]:
        key = _key(service, query)
        check_instance_id(instance_id)
        match request.method:
            case "GET" | "HEAD":
                return self._registration(key, instance_id)
            case "PUT":
                self._tokens.check(request.header(b"authorization"))
                return _guarded(self._put(request, key, parse_instance(instance_id, request.body)))
            case "DELETE":
                self._tokens.check(request.header(b"authorization"))
                return _guarded(self._delete(request, key, instance_id))
        raise _not_allowed("GET, HEAD, PUT, DELETE")

    def _registration(self, key: ServiceKey, instance_id: str) -> Response:
        instance = self._store.find(key, instance_id)
        if instance is None:
            detail = f"service {key.name!r} has no instance {instance_id!r}; register it with PUT"
            raise Problem(404, "Not registered", detail)
        return _registered(200, instance)

    async def _put(self, request: Request, key: ServiceKey, instance: Instance) -> Response:
        created = await self._store.put(key, instance, _precondition(request))
        return _registered(201 if created else 200, instance)

    async def _delete(self, request: Request, key: ServiceKey, instance_id: str) -> Response:
        await self._store.remove(key, instance_id, _precondition(request))
        return Response(204)

    def _renewal(
        self, request: Request, service: str, instance_id: str, query: Query
    ) -> Awaitable[Answer]:
        if request.method != "POST":
            raise _not_allowed("POST")
        self._tokens.check(request.header(b"authorization"))
        return _guarded(self._renew(_key(service, query), check_instance_id(instance_id)))

    async def _renew(self, key: ServiceKey, instance_id: str) -> Response:
        lease = await self._store.renew(key, instance_id)
        return Response(204, headers=(("etag", f'"{lease.instance.etag}"'),))

    # waiting for a change

    def _watchable(
        self, request: Request, query: Query, key: Hashable, current: Callable[[], Document]
    ) -> Answer | Awaitable[Answer]:
        document = current()
        if query.get("watch", "0") in {"0", "false"}:
            return document.answer(request)
        seconds = _wait_seconds(query.get("timeout"))
        known = query.get("version") or ",".join(entity_tags(request.header(b"if-none-match")))
        if document.version != known or self.draining:
            return document.answer(request)
        # Spread, so that those who began together do not come back together.
        seconds += self._rng.uniform(0, seconds / 16)
        return _guarded(self._wait(request, known, key, current, seconds))

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


async def _guarded(answer: Awaitable[Answer]) -> Answer:
    try:
        return await answer
    except Problem as problem:
        return problem_response(problem)


def _segments(path: bytes) -> list[str]:
    if b"://" in path[:9]:
        path = b"/" + path.partition(b"://")[2].partition(b"/")[2]
    try:
        parts = [unquote_to_bytes(part).decode() for part in path.split(b"/")]
    except UnicodeDecodeError:
        raise Problem(
            400, "Malformed request", "the path is not UTF-8; encode it as such"
        ) from None
    return parts[1:]


def _query(query: bytes) -> Query:
    try:
        return dict(
            parse_qsl(
                query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=32
            )
        )
    except ValueError:
        raise Problem(
            400, "Malformed request", "the query is not percent-encoded UTF-8 with up to 32 fields"
        ) from None


def _key(service: str, query: Query) -> ServiceKey:
    group, namespace = query.get("group", ""), query.get("namespace", "")
    return ServiceKey(
        check_name("service", service),
        check_name("group", group) if group else "",
        check_name("namespace", namespace) if namespace else "",
    )


def _wait_seconds(text: str | None) -> float:
    if text is None:
        return DEFAULT_WAIT_SECONDS
    parsed = _DURATION.fullmatch(text)
    seconds = float(parsed[1]) * _UNITS[parsed[2]] if parsed else -1.0
    if not 0 <= seconds <= LONGEST_WAIT_SECONDS:
        raise Problem(
            400,
            "Invalid value",
            f"timeout must be 0 to {LONGEST_WAIT_SECONDS:g} seconds such as 55s, not {text[:40]!r}",
            extra={"field": "timeout"},
        )
    return seconds


def _precondition(request: Request) -> Precondition:
    absent = request.header(b"if-none-match").strip() == "*"
    return Precondition(entity_tags(request.header(b"if-match")), absent)


def _registered(status: int, instance: Instance) -> Response:
    document = {**instance.document(), "etag": instance.etag}
    return json_response(status, document, (("etag", f'"{instance.etag}"'),))


def _reading(request: Request, answer: Callable[[], Response]) -> Response:
    _only_read(request)
    return answer()


def _only_read(request: Request) -> Request:
    if request.method not in {"GET", "HEAD"}:
        raise _not_allowed("GET, HEAD")
    return request


def _not_allowed(allowed: str) -> Problem:
    return Problem(
        405, "Method not allowed", f"use one of {allowed}", headers=(("allow", allowed),)
    )


def _no_such_service(service: str) -> Problem:
    return Problem(
        404,
        "Service not found",
        f"no route is known for {service[:80]!r}; check the name and the labels of its Service",
        extra={"error": "service not found"},
    )
