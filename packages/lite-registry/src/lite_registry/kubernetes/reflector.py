"""List and watch one kind of object, so that a copy of it always converges to the cluster.

It follows https://kubernetes.io/docs/reference/using-api/api-concepts/ (watches, bookmarks, 410
Gone). Whatever fails, the copy keeps the last known objects.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Protocol, cast
from urllib.parse import urlencode

from lite_registry._backoff import backoff_seconds, jittered
from lite_registry._retry_after import parse_retry_after
from lite_registry.http_client import HttpClientError, SilenceError, StreamedHttpResponse

from .access import ApiServer

__all__ = ("SILENCE_SECONDS", "ApiError", "ObjectStore", "Reflector")

logger = logging.getLogger(__name__)

KubeObject = dict[str, object]

SILENCE_SECONDS = 70.0
_PAGE_SIZE = 250
_MAX_LINE_BYTES = 8 * 1024 * 1024
_FIRST_PAUSE_SECONDS = 1.6
_MAX_PAUSE_SECONDS = 60.0
_MAX_RETRY_AFTER_SECONDS = 120.0
_REWATCH_PAUSE_SECONDS = 0.1
_HEALTHY_SECONDS = 1.0
_CONFIRM_SECONDS = 2.0
_FAILURES_BEFORE_RELIST = 5
_GONE = 410


class ObjectStore(Protocol):
    """The copy that a reflector keeps up to date."""

    def replace(self, objects: dict[str, object]) -> None:
        """Hold these projections, by `namespace/name`, and no others."""
        ...

    def project(self, item: KubeObject) -> object | None:
        """The part of an object to hold; None when the object is of no interest."""
        ...

    def would_shrink(self, objects: dict[str, object]) -> bool:
        """Whether these objects are so few that the list has to be confirmed."""
        ...

    def put(self, key: str, projection: object) -> None:
        """Add the object, or replace it."""
        ...

    def remove(self, key: str, uid: str) -> None:
        """Remove the object, if it has this uid."""
        ...

    def mark_watch_ended(self) -> None:
        """A watch ended as it should; the next one brings the changes in between."""
        ...

    def mark_behind(self) -> None:
        """Changes were missed; a list will follow."""
        ...

    def mark_fresh(self) -> None:
        """The cluster was seen just now."""
        ...

    def mark_stale(self, reason: str) -> None:
        """The cluster cannot be seen."""
        ...


class ApiError(Exception):
    """The API server refused a request, or failed.

    Attributes:
        status: the HTTP status.
        retry_after: the seconds it asks to wait; None when it does not.
    """

    def __init__(self, status: int, message: str, retry_after: float | None = None) -> None:
        super().__init__(f"HTTP {status}: {message}")
        self.status = status
        self.retry_after = retry_after


class Reflector:
    """Keeps an `ObjectStore` up to date with one kind of object.

    Args:
        path: for example `/api/v1/namespaces/shop/services`.
        selector: the label selector.
        count: called with `(metric name, reason)` for each relist and watch restart.
    """

    def __init__(
        self,
        api: ApiServer,
        path: str,
        store: ObjectStore,
        *,
        selector: str = "",
        silence_seconds: float = SILENCE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        rng: random.Random | None = None,
        count: Callable[[str, str], None] = lambda _name, _reason: None,
    ) -> None:
        self._api = api
        self._path = path
        self._store = store
        self._selector = selector
        self._silence_seconds = silence_seconds
        self._clock = clock
        self._sleep = sleep
        self._rng = rng or random.Random()
        self._count = count
        self._failures = 0
        self._listed_at = float("-inf")
        self._logged_reason = ""

    async def run(self) -> None:
        """List, then watch, and list again whenever that is needed; until cancelled."""
        while True:
            version = await self._list()
            if version is not None:
                await self._watch(version)

    # list

    async def _list(self) -> str | None:
        if self._clock() - self._listed_at < _HEALTHY_SECONDS:
            # 410 right after a list: whatever is wrong, listing faster does not help.
            await self._back_off(None)
        self._listed_at = self._clock()
        try:
            version, objects = await self._list_all_pages()
            if self._store.would_shrink(objects):
                logger.warning("%s: list shrank sharply; listing again to confirm", self._path)
                self._count("shrink_guards", "shrink")
                await self._sleep(_CONFIRM_SECONDS)
                version, objects = await self._list_all_pages()
        except (HttpClientError, ApiError) as error:
            await self._handle_failure("list", error)
            return None
        self._count("relists", "list")
        self._store.replace(objects)
        self._record_success()
        return version

    async def _list_all_pages(self) -> tuple[str, dict[str, object]]:
        """Every page, or an error: part of a list is never taken for the whole."""
        objects: dict[str, object] = {}
        query = {"limit": str(_PAGE_SIZE)}
        while True:
            page = await self._read_page(query)
            meta = _get_metadata(page)
            for item in cast("list[object]", page["items"]):
                projection = self._project(item)
                if projection is not None:
                    objects[_get_key(cast(KubeObject, item))] = projection
            if not meta.get("continue"):
                return str(meta.get("resourceVersion") or ""), objects
            query["continue"] = str(meta["continue"])

    async def _read_page(self, query: dict[str, str]) -> dict[str, object]:
        client = await self._api.create_client()
        response = await client.request("GET", self._build_target(query))
        if response.status != 200:
            raise _build_api_error(response.status, response.headers, response.body)
        page = response.json()
        if not isinstance(page.get("items"), list):
            raise ApiError(200, "the response is not a list")
        return page

    # watch

    async def _watch(self, version: str) -> None:
        """Apply the changes from that version on, until a new list is needed."""
        attempts = 0
        while attempts < _FAILURES_BEFORE_RELIST:
            attempts += 1
            began = self._clock()
            try:
                async for event in self._stream_events(version):
                    version = self._apply(event) or version
                    self._record_success()
                    attempts = self._failures = 0
            except SilenceError as error:
                # A cluster that was set up again is silent on a version that it will have only in
                # the future. No pause: the list shows at once whether anything is wrong, and in
                # each pause the other kinds of object have nothing to be in step with.
                self._record_failure("watch", error)
                self._store.mark_behind()
                return
            except (HttpClientError, ApiError) as error:
                if isinstance(error, ApiError) and error.status == _GONE:
                    self._count("watch_restarts", "gone")
                    self._store.mark_behind()
                    return
                await self._handle_failure("watch", error)
                continue
            self._count("watch_restarts", "eof")
            self._store.mark_watch_ended()
            if self._clock() - began < _HEALTHY_SECONDS:
                await self._back_off(None)
            else:
                attempts = self._failures = 0
                await self._sleep(_REWATCH_PAUSE_SECONDS)

    async def _stream_events(self, version: str) -> AsyncIterator[dict[str, object]]:
        query = {
            "watch": "1",
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(self._rng.randint(300, 600)),
        }
        client = await self._api.create_client()
        target = self._build_target(query)
        async with client.stream("GET", target, silence_seconds=self._silence_seconds) as response:
            if response.status != 200:
                body = await response.read()
                raise _build_api_error(response.status, response.headers, body)
            self._store.mark_fresh()
            async for line in _iterate_lines(response):
                yield _parse_event(line)

    def _apply(self, event: dict[str, object]) -> str | None:
        """Apply one event to the store; returns the version it brings."""
        kind, item = event.get("type"), cast(KubeObject, event["object"])
        if kind == "ERROR":
            code = item.get("code")
            status = code if isinstance(code, int) else 500
            raise ApiError(status, str(item.get("message") or "")[:300])
        meta = _get_metadata(item)
        uid = str(meta.get("uid") or "")
        if kind in {"ADDED", "MODIFIED"}:
            projection = self._project(item)
            if projection is None:
                self._store.remove(_get_key(item), uid)
            else:
                self._store.put(_get_key(item), projection)
        elif kind == "DELETED":
            self._store.remove(_get_key(item), uid)
        elif kind != "BOOKMARK":
            raise ApiError(200, f"an event of unknown type {str(kind)[:40]!r}")
        version = meta.get("resourceVersion")
        return version if isinstance(version, str) else None

    def _project(self, item: object) -> object | None:
        # What is no Kubernetes object comes from a proxy, and is a failure like any other: it must
        # not end the reflector.
        try:
            return self._store.project(cast(KubeObject, item))
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
            raise HttpClientError(f"an object has an unexpected form ({error!r})") from error

    # successes and failures

    def _record_success(self) -> None:
        if self._logged_reason:
            logger.info("%s: reachable again", self._path)
        self._logged_reason = ""
        self._store.mark_fresh()

    async def _handle_failure(self, operation: str, error: HttpClientError | ApiError) -> None:
        self._record_failure(operation, error)
        await self._back_off(error.retry_after if isinstance(error, ApiError) else None)

    def _record_failure(self, operation: str, error: HttpClientError | ApiError) -> None:
        reason = str(error.status) if isinstance(error, ApiError) else "connection"
        self._count("watch_restarts" if operation == "watch" else "list_failures", reason)
        self._store.mark_stale(reason)
        if isinstance(error, ApiError) and error.status == 401:
            self._api.discard_credentials()
        if reason != self._logged_reason:
            self._logged_reason = reason
            logger.warning(
                "%s %s: %s; keeping the last known objects", operation, self._path, error
            )

    async def _back_off(self, retry_after: float | None) -> None:
        self._failures += 1
        longest = backoff_seconds(
            self._failures, initial_seconds=_FIRST_PAUSE_SECONDS, max_seconds=_MAX_PAUSE_SECONDS
        )
        pause = jittered(longest, "equal", self._rng.random)
        if retry_after is not None:
            pause = max(pause, min(retry_after, _MAX_RETRY_AFTER_SECONDS))
        await self._sleep(pause)

    def _build_target(self, query: dict[str, str]) -> str:
        if self._selector:
            query = {**query, "labelSelector": self._selector}
        return f"{self._path}?{urlencode(query)}"


async def _iterate_lines(response: StreamedHttpResponse) -> AsyncIterator[bytes]:
    incomplete = b""
    async for chunk in response.chunks:
        *lines, incomplete = (incomplete + chunk).split(b"\n")
        for line in lines:
            if line:
                yield line
        if len(incomplete) > _MAX_LINE_BYTES:
            raise HttpClientError(f"an event is larger than {_MAX_LINE_BYTES} bytes")


def _parse_event(line: bytes) -> dict[str, object]:
    try:
        event = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise HttpClientError("the stream holds a line that is not JSON") from error
    if not isinstance(event, dict) or not isinstance(event.get("object"), dict):
        raise HttpClientError("the stream holds a line that is not an event")
    return event


def _get_metadata(item: KubeObject) -> Mapping[str, object]:
    meta = item.get("metadata")
    return meta if isinstance(meta, dict) else {}


def _get_key(item: KubeObject) -> str:
    meta = _get_metadata(item)
    return f"{meta.get('namespace', '')}/{meta.get('name', '')}"


def _build_api_error(status: int, headers: Mapping[str, str], body: bytes) -> ApiError:
    try:
        message = str(json.loads(body).get("message"))
    except (ValueError, RecursionError, AttributeError):
        message = body[:200].decode("utf-8", "replace")
    retry_after = parse_retry_after(headers.get("retry-after"), date=headers.get("date"))
    return ApiError(status, message[:300], retry_after)
