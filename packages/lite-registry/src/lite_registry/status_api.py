"""What operators and probes read: health, readiness, metrics, status page, OpenAPI document."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import cache
from importlib.resources import files

from .change_history import ChangeHistory
from .conditional_response import VersionedDocument
from .lease_store import LeaseStore
from .metrics import Metrics
from .published_routes import PublishedRoutes, format_rfc3339
from .request import Outcome, Request
from .request_parsing import Query
from .resources import Resource
from .response import Response, build_json_response, encode_json
from .routes import compute_fingerprint
from .watching import Watches

__all__ = ("STATUS", "StatusApi")

STATUS = "/v1/status"

_PAGE_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class StatusApi:
    """Responds with the state of the server.

    Args:
        get_down_tasks: returns the names of the background tasks that wait for a restart.
    """

    def __init__(
        self,
        published: PublishedRoutes,
        store: LeaseStore,
        history: ChangeHistory,
        watches: Watches,
        metrics: Metrics,
        *,
        get_down_tasks: Callable[[], Collection[str]],
    ) -> None:
        self._published = published
        self._store = store
        self._history = history
        self._watches = watches
        self._metrics = metrics
        self._get_down_tasks = get_down_tasks
        self._revision = 0
        self._rendered: tuple[tuple[object, ...], VersionedDocument] | None = None

    def record_change(self) -> None:
        """Take notice that routes, instances or the history have changed."""
        self._revision += 1

    def build_resources(self) -> tuple[Resource, ...]:
        """The resources with their handlers."""
        return (
            Resource(STATUS, {"GET": self._read_status}),
            Resource("/", {"GET": self._read_page}),
            Resource("/healthz", {"GET": self._read_health}),
            Resource("/readyz", {"GET": self._read_readiness}),
            Resource("/metrics", {"GET": self._read_metrics}),
            Resource("/openapi.json", {"GET": self._read_openapi}),
        )

    def _read_health(self, _request: Request, _query: Query, _: Sequence[str]) -> Response:
        return build_json_response(200, {"status": "ok"})

    def _read_readiness(self, _request: Request, _query: Query, _: Sequence[str]) -> Response:
        if self._watches.draining:
            return build_json_response(503, {"status": "draining"})
        if not self._published.ready:
            return build_json_response(503, {"status": "waiting for the first routes"})
        if tasks := sorted(self._get_down_tasks()):
            return build_json_response(503, {"status": "restarting a task", "tasks": tasks})
        source = "live" if self._published.live else "disk"
        # A store that is away takes nothing from the routes: it is said, and no reason to be out.
        readiness = {
            "status": "ok",
            "stale": self._published.stale,
            "source": source,
            "store": "ok" if self._store.reachable else "unreachable",
        }
        return build_json_response(200, readiness)

    def _read_metrics(self, _request: Request, _query: Query, _: Sequence[str]) -> Response:
        return Response(200, self._metrics.render(), "text/plain; version=0.0.4; charset=utf-8")

    def _read_openapi(self, _request: Request, _query: Query, _: Sequence[str]) -> Response:
        return Response(200, _read_file("openapi.json"), "application/json")

    def _read_page(self, _request: Request, _query: Query, _: Sequence[str]) -> Response:
        fields = (
            ("content-security-policy", _PAGE_POLICY),
            ("cache-control", "no-cache"),
            ("x-content-type-options", "nosniff"),
        )
        return Response(200, _read_file("status.html"), "text/html; charset=utf-8", fields)

    def _read_status(self, request: Request, query: Query, _: Sequence[str]) -> Outcome:
        return self._watches.respond(request, query, STATUS, self._render_status)

    def _render_status(self) -> VersionedDocument:
        """Everything the status page shows; made once for each state, not for each request."""
        marks = (
            *(self._revision, self._published.stale, self._published.live, self._published.ages),
            *(self._store.preserving, self._history.count_entries()),
        )
        if self._rendered is None or self._rendered[0] != marks:
            self._rendered = marks, self._build_content()
        content = self._rendered[1]
        # `synced_at` moves all the time, and alone is no news to a watcher.
        synced_at = encode_json({"synced_at": format_rfc3339(self._published.times[1])})
        return VersionedDocument(content.version, content.body[:-1] + b"," + synced_at[1:])

    def _build_content(self) -> VersionedDocument:
        content = {
            "routes": self._published.table.documents,
            "stale": self._published.stale,
            "live": self._published.live,
            "ages": self._published.ages,
            "self_preservation": self._store.preserving,
            "instances": [
                {
                    "service": key.name,
                    "group": key.group,
                    "namespace": key.namespace,
                    "instances": [each.to_document() for each in self._store.list_instances(key)],
                }
                for key in self._store.list_services()
            ],
            "changes": self._history.to_documents(),
        }
        return VersionedDocument(compute_fingerprint(content), encode_json(content))


@cache
def _read_file(name: str) -> bytes:
    return files(__package__).joinpath(name).read_bytes()
