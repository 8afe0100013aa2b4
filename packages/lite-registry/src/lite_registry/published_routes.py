"""The routes that `/v1/routes` serves: the table, when it last changed, and whether it is fresh."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

from .conditional_response import VersionedDocument
from .response import encode_json
from .route_deltas import RouteDeltas
from .routes import NO_ROUTES, RouteTable

__all__ = ("PublishedRoutes", "format_rfc3339")


class PublishedRoutes:
    """The one place a source publishes to and the server reads from; belongs to one event loop.

    Attributes:
        ready: there is something to serve, from the source or from a snapshot.
        live: the source itself has published.
        stale: the source cannot be seen.
        ages: False for a table that is correct however old it is.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.table: RouteTable = NO_ROUTES
        self.ready = False
        self.live = False
        self.stale = False
        self._listener: Callable[[RouteTable, RouteTable], None] = lambda _before, _after: None
        # Ages use the monotonic clock; the wall clock is for times that are shown or kept.
        self._clock = clock
        self._wall_clock = wall_clock
        self._confirmed_at = clock()
        self._updated_at = wall_clock()
        self._synced_at: float | None = None
        self.ages = True
        self._rendered_at = -1
        self._rendered_all: VersionedDocument | None = None
        self._rendered_services: dict[str, VersionedDocument] = {}
        self._rendered_deltas: dict[str, VersionedDocument] = {}
        self._deltas = RouteDeltas()

    def subscribe(self, listener: Callable[[RouteTable, RouteTable], None]) -> None:
        """Call the listener with the table before and after each change; replaces an earlier one.

        The versions are equal when only numbers of ready endpoints have changed.
        """
        self._listener = listener

    def publish(self, table: RouteTable, *, ages: bool = True) -> None:
        """Serve this table from now on; one with the same content only refreshes the age.

        A table with `ages` False is correct however old it is.
        """
        self.ages = ages
        self.ready = self.live = True
        self.mark_fresh()
        self._replace(table)

    def restore(self, table: RouteTable, updated_at: float, synced_at: float) -> None:
        """Serve the table of a snapshot, marked as stale, until the source publishes.

        Args:
            updated_at: when it last changed, in seconds since 1970.
            synced_at: when its source was last seen, in seconds since 1970.
        """
        self.ready = True
        self.stale = True
        self._replace(table)
        self._updated_at, self._synced_at = updated_at, synced_at
        self._confirmed_at = self._clock() - max(0.0, self._wall_clock() - synced_at)

    @property
    def times(self) -> tuple[float, float]:
        """When the content last changed and when the source was last seen, seconds since 1970."""
        return self._updated_at, self._synced_at or 0.0

    def mark_fresh(self, seen_at: float | None = None) -> None:
        """Record that the source confirmed the table, by default just now.

        Args:
            seen_at: when the source was seen, in seconds since 1970.
        """
        now = self._wall_clock()
        self._synced_at = now if seen_at is None else seen_at
        self._confirmed_at = self._clock() - max(0.0, now - self._synced_at)
        if self.stale:
            self.stale = False
            self._drop_rendered()

    def mark_stale(self) -> None:
        """Record that the source cannot be seen: the table is served on, and marked."""
        if not self.stale:
            self.stale = True
            self._drop_rendered()

    @property
    def age_seconds(self) -> float:
        """Seconds since the source was last seen; infinite before the first time."""
        if self._synced_at is None:
            return float("inf")
        return self._clock() - self._confirmed_at if self.ages else 0.0

    def render_all(self) -> VersionedDocument:
        """The document at `/v1/routes`."""
        self._drop_outdated()
        if self._rendered_all is None:
            freshness = encode_json(self._describe_freshness(self.table.version))
            body = b'{"services":' + self.table.encode_services() + b"," + freshness[1:]
            self._rendered_all = self._render(self.table.version, body)
        return self._rendered_all

    def render_delta(self, since: str) -> VersionedDocument | None:
        """What has changed in `/v1/routes` after that version; None when that is not known."""
        self._drop_outdated()
        if since not in self._rendered_deltas:
            changed = self._deltas.find_changed(since)
            if changed is None:
                return None
            documents = self.table.documents
            document = {
                "since": since,
                "services": {name: documents[name] for name in changed if name in documents},
                "removed": sorted(name for name in changed if name not in documents),
                **self._describe_freshness(self.table.version),
            }
            rendered = self._render(self.table.version, encode_json(document))
            self._rendered_deltas[since] = rendered
        return self._rendered_deltas[since]

    def render_service(self, service: str) -> VersionedDocument | None:
        """The document at `/v1/routes/{service}`; None when there is no such route."""
        self._drop_outdated()
        if service not in self._rendered_services:
            if service not in self.table.documents:
                return None
            version = self.table.versions[service]
            document = {
                **self.table.documents[service],
                "service": service,
                **self._describe_freshness(version),
            }
            self._rendered_services[service] = self._render(version, encode_json(document))
        return self._rendered_services[service]

    def _replace(self, table: RouteTable) -> None:
        if table.documents == self.table.documents:
            return
        before, self.table = self.table, table
        if table.version != before.version:
            self._updated_at = self._wall_clock()
            self._deltas.record(before, table)
        self._drop_rendered()
        self._listener(before, table)

    def _describe_freshness(self, version: str) -> dict[str, object]:
        synced = None if self._synced_at is None else format_rfc3339(self._synced_at)
        return {
            "version": version,
            "updated_at": format_rfc3339(self._updated_at),
            "synced_at": synced,
            "age_seconds": None if synced is None else int(self.age_seconds),
            "stale": self.stale,
        }

    def _render(self, version: str, body: bytes) -> VersionedDocument:
        age = 0 if self._synced_at is None else int(self.age_seconds)
        stale = "true" if self.stale else "false"
        return VersionedDocument(version, body, (("age", str(age)), ("x-registry-stale", stale)))

    def _drop_outdated(self) -> None:
        # A document holds its age in whole seconds, and so is right for one second.
        if self._rendered_at != (now := int(self._clock())):
            self._drop_rendered()
            self._rendered_at = now

    def _drop_rendered(self) -> None:
        self._rendered_all = None
        self._rendered_services.clear()
        self._rendered_deltas.clear()


def format_rfc3339(seconds: float) -> str:
    """Seconds since 1970 as RFC 3339 in UTC, with milliseconds."""
    moment = datetime.fromtimestamp(seconds, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
