"""The lane routes over HTTP: `/v1/routes`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .change_history import ChangeHistory, describe_changes
from .change_notifier import ChangeNotifier
from .conditional_response import VersionedDocument
from .errors import Problem
from .published_routes import PublishedRoutes
from .request import Outcome, Request
from .request_parsing import Query
from .resources import Resource
from .routes import NO_ROUTES, RouteTable
from .watching import Watches

__all__ = ("ALL_ROUTES", "RoutesApi")

ALL_ROUTES = "/v1/routes"


class RoutesApi:
    """Responds with the published routes, and wakes their watchers.

    Args:
        on_change: called after each change of the routes.
    """

    def __init__(
        self,
        published: PublishedRoutes,
        changes: ChangeNotifier,
        history: ChangeHistory,
        watches: Watches,
        *,
        on_change: Callable[[], None],
    ) -> None:
        self._published = published
        self._changes = changes
        self._history = history
        self._watches = watches
        self._on_change = on_change
        published.subscribe(self._handle_change)

    def build_resources(self) -> tuple[Resource, ...]:
        """The resources with their handlers."""
        return (
            Resource(ALL_ROUTES, {"GET": self._read_all}),
            Resource("/v1/routes/{service}", {"GET": self._read_service}),
        )

    def get_all(self) -> VersionedDocument:
        """The document with all routes.

        Raises:
            Problem: 503 before the first routes are known; never is the table empty instead.
        """
        if not self._published.ready:
            raise Problem(
                503,
                "Not ready",
                "the routes are not known yet; try again, /readyz shows when they are",
                headers=(("retry-after", "1"),),
            )
        return self._published.render_all()

    def _read_all(self, request: Request, query: Query, _: Sequence[str]) -> Outcome:
        since = query.get("since")
        if since is None:
            return self._watches.respond(request, query, ALL_ROUTES, self.get_all)

        def get_document() -> VersionedDocument:
            all_routes = self.get_all()
            return self._published.render_delta(since) or all_routes

        return self._watches.respond(request, query, ALL_ROUTES, get_document)

    def _read_service(self, request: Request, query: Query, variables: Sequence[str]) -> Outcome:
        (service,) = variables

        def get_document() -> VersionedDocument:
            self.get_all()
            document = self._published.render_service(service)
            if document is None:
                raise _build_no_such_service(service)
            return document

        return self._watches.respond(request, query, (ALL_ROUTES, service), get_document)

    def _handle_change(self, before: RouteTable, after: RouteTable) -> None:
        self._on_change()
        if before.version == after.version:
            return
        self._changes.notify(ALL_ROUTES)
        for name in before.versions.keys() | after.versions.keys():
            if before.versions.get(name) != after.versions.get(name):
                self._changes.notify((ALL_ROUTES, name))
                if before is not NO_ROUTES:  # the first routes are no change of anything
                    self._history.add(name, describe_changes(before.routes, after.routes, name))


def _build_no_such_service(service: str) -> Problem:
    return Problem(
        404,
        "Service not found",
        f"no route is known for {service[:80]!r}; check the name and the labels of its Service",
        extra={"error": "service not found"},
    )
