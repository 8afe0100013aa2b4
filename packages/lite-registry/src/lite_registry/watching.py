"""Respond to requests that wait for a change: long polls and server-sent events."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Hashable

from .change_notifier import ChangeNotifier
from .conditional_response import VersionedDocument, parse_entity_tags
from .errors import Problem
from .request import Outcome, Request
from .request_parsing import Query, parse_wait_seconds, parse_watch
from .response import Response, StreamResponse

__all__ = ("GetDocument", "Watches")

_HEARTBEAT_SECONDS = 15.0

GetDocument = Callable[[], VersionedDocument]


class Watches:
    """Responds with a document at once, or after its next change if the request asks for that.

    Attributes:
        draining: the server is about to stop, and keeps no further request waiting.
    """

    def __init__(self, changes: ChangeNotifier, rng: random.Random | None = None) -> None:
        self._changes = changes
        self._rng = rng or random.Random()
        self.draining = False

    def respond(
        self, request: Request, query: Query, key: Hashable, get_document: GetDocument
    ) -> Outcome:
        """The response to a request for a document that can be watched.

        Args:
            key: of the change notifier, woken when the document may have changed.
            get_document: returns the document now, or raises a Problem.

        Raises:
            Problem: the document does not exist, or the waiting time is illegal.
        """
        seconds = parse_wait_seconds(query.get("timeout"))
        if not parse_watch(query):
            if "text/event-stream" in request.get_header(b"accept"):
                get_document()  # what is wrong now is a problem, not an empty stream
                return StreamResponse(
                    self._stream_events(key, get_document),
                    "text/event-stream",
                    (("cache-control", "no-cache"), ("x-accel-buffering", "no")),
                )
            return get_document().respond(request)
        tags = parse_entity_tags(request.get_header(b"if-none-match"))
        version = query.get("version") or ",".join(tags)
        document = get_document()
        if document.version != version or self.draining:
            return document.respond(request)
        # Spread, so that clients that began together do not come back together.
        seconds += self._rng.uniform(0, seconds / 16)
        return self._wait(request, version, key, get_document, seconds)

    async def _wait(
        self,
        request: Request,
        version: str,
        key: Hashable,
        get_document: GetDocument,
        seconds: float,
    ) -> Response:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while (document := get_document()).version == version:
            if not await self._changes.wait(key, deadline - loop.time()):
                return document.respond_not_modified()
        return document.respond(request)

    async def _stream_events(
        self, key: Hashable, get_document: GetDocument
    ) -> AsyncIterator[bytes]:
        """The document now and after each change as events; a comment when nothing changes."""
        version = ""
        while not self.draining:
            try:
                document = get_document()
            except Problem:  # the service is gone
                return
            if document.version != version:
                version = document.version
                yield b"id: %b\ndata: %b\n\n" % (version.encode(), document.body)
            elif not await self._changes.wait(key, _HEARTBEAT_SECONDS):
                yield b": still here\n\n"
