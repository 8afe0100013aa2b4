"""What `/v1/routes` says now: the table, when it last changed, and how far it can be trusted."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

from .document import Document
from .response import json_bytes
from .routes import NO_ROUTES, RouteTable

__all__ = ("PublishedRoutes", "rfc3339")


class PublishedRoutes:
    """The one place a source publishes to and the server reads from; belongs to one event loop.

    Attributes:
        ready: there is something to serve, from the source or from a snapshot.
        live: the source itself has published.
        stale: the source cannot be seen.
        ages: False for a table that is right however old it is.

    Who listens is told the table before and after each change.
    """

    def __init__(self, *, wall_clock: Callable[[], float] = time.time) -> None:
        self.table: RouteTable = NO_ROUTES
        self.ready = False
        self.live = False
        self.stale = False
        self._listener: Callable[[RouteTable, RouteTable], None] = lambda _before, _after: None
        self._wall_clock = wall_clock
        self._updated_at = wall_clock()
        self._synced_at: float | None = None
        self.ages = True
        self._rendered_at = -1
        self._whole: Document | None = None
        self._parts: dict[str, Document] = {}

    def listen(self, listener: Callable[[RouteTable, RouteTable], None]) -> None:
        """Tell `listener` of each change."""
        self._listener = listener

    def publish(self, table: RouteTable, *, ages: bool = True) -> None:
        """Show this table from now on; one that says the same only refreshes the age.

        A table with `ages` False is right however old it is.
        """
        self.ages = ages
        self.ready = self.live = True
        self.confirm()
        self._show(table)

    def restore(self, table: RouteTable, updated_at: float, synced_at: float) -> None:
        """Show a table of earlier, marked as stale, until the source publishes."""
        self.ready = True
        self.stale = True
        self._show(table)
        self._updated_at, self._synced_at = updated_at, synced_at

    @property
    def times(self) -> tuple[float, float]:
        """When the content changed last and when the source was last seen, seconds since 1970."""
        return self._updated_at, self._synced_at or 0.0

    def _show(self, table: RouteTable) -> None:
        if table.version == self.table.version:
            return
        before, self.table = self.table, table
        self._updated_at = self._wall_clock()
        self._forget_rendered()
        self._listener(before, table)

    def confirm(self, seen_at: float | None = None) -> None:
        """The source was seen at that time, by default now, and the table is what it says."""
        self._synced_at = self._wall_clock() if seen_at is None else seen_at
        if self.stale:
            self.stale = False
            self._forget_rendered()

    def doubt(self) -> None:
        """The source cannot be seen: the table stays and is marked."""
        if not self.stale:
            self.stale = True
            self._forget_rendered()

    @property
    def age_seconds(self) -> float:
        """Time since the source was last seen; infinite before the first time."""
        if self._synced_at is None:
            return float("inf")
        return max(0.0, self._wall_clock() - self._synced_at) if self.ages else 0.0

    def whole(self) -> Document:
        """`/v1/routes`."""
        self._forget_when_old()
        if self._whole is None:
            freshness = json_bytes(self._freshness(self.table.version))
            body = b'{"services":' + self.table.services_json() + b"," + freshness[1:]
            self._whole = self._render(self.table.version, body)
        return self._whole

    def part(self, service: str) -> Document | None:
        """`/v1/routes/{service}`."""
        self._forget_when_old()
        if service not in self._parts:
            if service not in self.table.documents:
                return None
            version = self.table.versions[service]
            document = {
                **self.table.documents[service],
                "service": service,
                **self._freshness(version),
            }
            self._parts[service] = self._render(version, json_bytes(document))
        return self._parts[service]

    def _freshness(self, version: str) -> dict[str, object]:
        synced = None if self._synced_at is None else rfc3339(self._synced_at)
        return {
            "version": version,
            "updated_at": rfc3339(self._updated_at),
            "synced_at": synced,
            "age_seconds": None if synced is None else int(self.age_seconds),
            "stale": self.stale,
        }

    def _render(self, version: str, body: bytes) -> Document:
        age = 0 if self._synced_at is None else int(self.age_seconds)
        stale = "true" if self.stale else "false"
        return Document(version, body, (("age", str(age)), ("x-registry-stale", stale)))

    def _forget_when_old(self) -> None:
        if self._rendered_at != (now := int(self._wall_clock())):
            self._forget_rendered()
            self._rendered_at = now

    def _forget_rendered(self) -> None:
        self._whole = None
        self._parts.clear()


def rfc3339(seconds: float) -> str:
    """Seconds since the epoch as RFC 3339 in UTC, whole milliseconds."""
    moment = datetime.fromtimestamp(seconds, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
