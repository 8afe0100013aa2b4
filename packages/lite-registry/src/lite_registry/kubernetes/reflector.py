"""List and watch one kind of object, so that a view of it always converges to the cluster.

The contract followed is https://kubernetes.io/docs/reference/using-api/api-concepts/ (watches,
bookmarks, 410 Gone). Whatever fails, the view keeps what it showed last.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Protocol, cast
from urllib.parse import urlencode

from lite_registry.http_client import HttpClientError, SilenceError

if TYPE_CHECKING:
    from lite_registry.http_client import StreamedAnswer

    from .access import ApiServer

__all__ = ("Reflector", "View")

logger = logging.getLogger(__name__)

KubeObject = dict[str, object]

PAGE = 250
LONGEST_LINE = 8 * 1024 * 1024
SILENCE_SECONDS = 70.0
BACKOFF_FLOOR_SECONDS = 0.8
BACKOFF_CEILING_SECONDS = 30.0
LONGEST_RETRY_AFTER_SECONDS = 120.0
REWATCH_FLOOR_SECONDS = 0.1
HEALTHY_SECONDS = 1.0
CONFIRM_SECONDS = 2.0
FAILURES_BEFORE_RELIST = 5


class View(Protocol):
    """What a reflector keeps up to date."""

    def replace(self, objects: dict[str, object]) -> None:
        """These projections, by `namespace/name`, are all there are."""
        ...

    def project(self, item: KubeObject) -> object | None:
        """What is kept of the object; None when it does not belong here."""
        ...

    def shrinks(self, objects: dict[str, object]) -> bool:
        """Whether so much would vanish that a second look is due."""
        ...

    def put(self, key: str, projection: object) -> None:
        """The object is so now."""
        ...

    def remove(self, key: str, uid: str) -> None:
        """The object of that uid is gone."""
        ...

    def pause(self) -> None:
        """The stream came to its end, as it does; changes may be missed until the next one."""
        ...

    def lag(self) -> None:
        """Changes were missed; a list will tell."""
        ...

    def confirm(self) -> None:
        """The cluster was seen just now."""
        ...

    def doubt(self, reason: str) -> None:
        """The cluster cannot be seen."""
        ...


class ApiError(Exception):
    """The API server refused or failed.

    Attributes:
        status: the HTTP status.
        retry_after: seconds it asks to wait, or None.
    """

    def __init__(self, status: int, message: str, retry_after: float | None = None) -> None:
        super().__init__(f"HTTP {status}: {message}")
        self.status = status
        self.retry_after = retry_after


class Reflector:
    """Keeps a `View` of one kind of object.

    Args:
        path: e.g. `/api/v1/namespaces/shop/services`.
        selector: the label selector.
        count: told `(metric name, reason)` of each relist and watch restart.
    """

    def __init__(
        self,
        api: ApiServer,
        path: str,
        view: View,
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
        self._view = view
        self._selector = selector
        self._silence_seconds = silence_seconds
        self._clock = clock
        self._sleep = sleep
        self._rng = rng or random.Random()
        self._count = count
        self._failures = 0
        self._listed_at = float("-inf")
        self._told = ""

    async def run(self) -> None:
        """List, watch, and again whenever that is due; until cancelled."""
        while True:
            version = await self._list()
            if version is not None:
                await self._watch(version)

    # list

    async def _list(self) -> str | None:
        if self._clock() - self._listed_at < HEALTHY_SECONDS:
            # 410 right after a list: whatever is wrong, asking faster does not help.
            await self._back_off(None)
        self._listed_at = self._clock()
        try:
            version, objects = await self._all_pages()
            if self._view.shrinks(objects):
                logger.warning("%s: much of what was there is gone; asking again", self._path)
                self._count("shrink_guards", "shrink")
                await self._sleep(CONFIRM_SECONDS)
                version, objects = await self._all_pages()
        except (HttpClientError, ApiError) as error:
            await self._failed("list", error)
            return None
        self._count("relists", "list")
        self._view.replace(objects)
        self._seen()
        return version

    async def _all_pages(self) -> tuple[str, dict[str, object]]:
        """Every page, or an error: part of a list is never taken for the whole."""
        objects: dict[str, object] = {}
        query = {"limit": str(PAGE)}
        while True:
            page = await self._page(query)
            meta = cast("dict[str, str]", page.get("metadata") or {})
            for item in cast("list[KubeObject]", page.get("items") or []):
                projection = self._view.project(item)
                if projection is not None:
                    objects[_key(item)] = projection
            if not meta.get("continue"):
                return meta.get("resourceVersion", ""), objects
            query["continue"] = meta["continue"]

    async def _page(self, query: dict[str, str]) -> dict[str, object]:
        client = await self._api.client()
        answer = await client.ask("GET", self._target(query))
        if answer.status != 200:
            raise _api_error(answer.status, answer.headers.get("retry-after"), answer.body)
        page = answer.json()
        if not isinstance(page.get("items"), list):
            raise ApiError(200, "the answer is no list")
        return page

    # watch

    async def _watch(self, version: str) -> None:
        """Follow the changes from that version on, until a new list is due."""
        tries = 0
        while tries < FAILURES_BEFORE_RELIST:
            tries += 1
            began = self._clock()
            try:
                async for event in self._events(version):
                    version = self._apply(event) or version
                    self._seen()
                    tries = self._failures = 0
            except SilenceError as error:
                # A cluster made anew is silent on a version it will only have in the future. No
                # pause: the list tells at once whether anything is wrong, and each pause would be
                # one in which the other kinds of object have nothing to be in step with.
                self._tell("watch", error)
                self._view.lag()
                return
            except (HttpClientError, ApiError) as error:
                if isinstance(error, ApiError) and error.status == 410:
                    self._count("watch_restarts", "gone")
                    self._view.lag()
                    return
                await self._failed("watch", error)
                continue
            self._count("watch_restarts", "eof")
            self._view.pause()
            if self._clock() - began < HEALTHY_SECONDS:
                await self._back_off(None)
            else:
                tries = self._failures = 0
                await self._sleep(REWATCH_FLOOR_SECONDS)

    async def _events(self, version: str) -> AsyncIterator[dict[str, object]]:
        query = {
            "watch": "1",
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(self._rng.randint(300, 600)),
        }
        client = await self._api.client()
        stream = client.stream("GET", self._target(query), silence_seconds=self._silence_seconds)
        async with stream as answer:
            if answer.status != 200:
                body = await answer.read()
                raise _api_error(answer.status, answer.headers.get("retry-after"), body)
            self._view.confirm()
            async for line in _lines(answer):
                yield _event(line)

    def _apply(self, event: dict[str, object]) -> str | None:
        kind, item = event.get("type"), cast(KubeObject, event.get("object") or {})
        if kind == "ERROR":
            raise ApiError(int(str(item.get("code") or 500)), str(item.get("message") or ""))
        meta = cast("dict[str, str]", item.get("metadata") or {})
        if kind in {"ADDED", "MODIFIED"}:
            projection = self._view.project(item)
            if projection is None:
                self._view.remove(_key(item), meta.get("uid", ""))
            else:
                self._view.put(_key(item), projection)
        elif kind == "DELETED":
            self._view.remove(_key(item), meta.get("uid", ""))
        elif kind != "BOOKMARK":
            raise ApiError(200, f"an event of unknown type {str(kind)[:40]!r}")
        return meta.get("resourceVersion")

    # what went well, what did not

    def _seen(self) -> None:
        if self._told:
            logger.info("%s: seen again", self._path)
        self._told = ""
        self._view.confirm()

    async def _failed(self, operation: str, error: HttpClientError | ApiError) -> None:
        self._tell(operation, error)
        await self._back_off(error.retry_after if isinstance(error, ApiError) else None)

    def _tell(self, operation: str, error: HttpClientError | ApiError) -> None:
        reason = str(error.status) if isinstance(error, ApiError) else "connection"
        self._count("watch_restarts" if operation == "watch" else "list_failures", reason)
        self._view.doubt(reason)
        if isinstance(error, ApiError) and error.status == 401:
            self._api.distrust()
        if reason != self._told:
            self._told = reason
            logger.warning("%s %s: %s; what was seen last stays", operation, self._path, error)

    async def _back_off(self, retry_after: float | None) -> None:
        longest = min(BACKOFF_CEILING_SECONDS, BACKOFF_FLOOR_SECONDS * 2 ** min(self._failures, 6))
        self._failures += 1
        pause = longest * self._rng.uniform(1.0, 2.0)
        if retry_after is not None:
            pause = max(pause, min(retry_after, LONGEST_RETRY_AFTER_SECONDS))
        await self._sleep(pause)

    def _target(self, query: dict[str, str]) -> str:
        if self._selector:
            query = {**query, "labelSelector": self._selector}
        return f"{self._path}?{urlencode(query)}"


async def _lines(answer: StreamedAnswer) -> AsyncIterator[bytes]:
    rest = b""
    async for chunk in answer.chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line:
                yield line
        if len(rest) > LONGEST_LINE:
            raise HttpClientError(f"an event is larger than {LONGEST_LINE} bytes")


def _event(line: bytes) -> dict[str, object]:
    try:
        event = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise HttpClientError("the stream holds a line that is no JSON") from error
    if not isinstance(event, dict) or not isinstance(event.get("object"), dict):
        raise HttpClientError("the stream holds a line that is no event")
    return event


def _key(item: KubeObject) -> str:
    meta = cast("dict[str, str]", item.get("metadata") or {})
    return f"{meta.get('namespace', '')}/{meta.get('name', '')}"


def _api_error(status: int, retry_after: str | None, body: bytes) -> ApiError:
    try:
        message = str(json.loads(body).get("message"))
    except (ValueError, RecursionError, AttributeError):
        message = body[:200].decode("utf-8", "replace")
    seconds = float(retry_after) if retry_after and retry_after.isdigit() else None
    return ApiError(status, message[:300], seconds)
