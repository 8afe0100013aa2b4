"""The HTTP interface: one table of resources, and the metrics of their requests.

Wire formats are written down in docs/lite-registry/wire-format.md.
"""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable, Collection

from .change_history import ChangeHistory
from .change_notifier import ChangeNotifier
from .errors import Problem
from .host_header import can_be_rebound
from .instances_api import InstancesApi
from .lease_store import LeaseStore
from .metrics import Metrics
from .published_routes import PublishedRoutes
from .request import Outcome, Request
from .request_parsing import parse_path, parse_query
from .resources import ResourceTable, respond_to_options
from .response import AnyResponse, Response, StreamResponse, build_problem_response
from .routes_api import ALL_ROUTES, RoutesApi
from .status_api import STATUS, StatusApi
from .tokens import TokenSource
from .watching import Watches

__all__ = ("Api",)


class Api:
    """Handles requests with the published routes and the lease store.

    Args:
        refuse_foreign_hosts: refuse requests whose Host is a name of the public DNS: the server is on
            loopback and accepts writes without a token, which a web page must not exploit.
        get_down_tasks: see `StatusApi`.
        on_change: called after each change of routes or instances.
    """

    def __init__(
        self,
        published: PublishedRoutes,
        store: LeaseStore,
        changes: ChangeNotifier,
        tokens: TokenSource,
        metrics: Metrics,
        *,
        refuse_foreign_hosts: bool = False,
        get_down_tasks: Callable[[], Collection[str]] = tuple,
        on_change: Callable[[], None] = lambda: None,
        wall_clock: Callable[[], float] = time.time,
        rng: random.Random | None = None,
    ) -> None:
        self._changes = changes
        self._metrics = metrics
        self._on_change = on_change
        self._refuse_foreign_hosts = refuse_foreign_hosts
        self._watches = Watches(changes, rng)
        history = ChangeHistory(wall_clock=wall_clock)
        self._routes = RoutesApi(
            published, changes, history, self._watches, on_change=self._handle_change
        )
        self.instances = InstancesApi(
            store,
            changes,
            history,
            self._watches,
            tokens=tokens,
            metrics=metrics,
            on_change=self._handle_change,
            wall_clock=wall_clock,
        )
        self._status = StatusApi(
            published, store, history, self._watches, metrics, get_down_tasks=get_down_tasks
        )
        self._resources = ResourceTable(
            [
                *self._routes.build_resources(),
                *self.instances.build_resources(),
                *self._status.build_resources(),
            ]
        )

    def start_draining(self) -> None:
        """Report not ready from now on, and keep no further request waiting."""
        self._watches.draining = True

    def handle(self, request: Request) -> Outcome:
        """The response to a request; a problem becomes its document."""
        try:
            outcome = self._dispatch(request)
        except Problem as problem:
            outcome = build_problem_response(problem)
        if isinstance(outcome, Response | StreamResponse):
            return self._count(request, outcome)
        return self._await_response(request, outcome)

    def _dispatch(self, request: Request) -> Outcome:
        if self._refuse_foreign_hosts and can_be_rebound(request.headers.get(b"host", b"")):
            raise _build_misdirected(request.get_header(b"host"))
        if _is_plain_read_of_routes(request):
            # Pollers send nothing else, thousands of times a second: past parsing and the table.
            request.template = ALL_ROUTES
            return self._routes.get_all().respond(request)
        if request.target == b"*" and request.method == "OPTIONS":
            return respond_to_options(self._resources.methods)
        path, _, query = request.target.partition(b"?")
        resource, variables = self._resources.find(parse_path(path), request.method)
        request.template = resource.template
        handler = resource.get_handler(request.method)
        return handler(request, parse_query(query), variables)

    async def _await_response(
        self, request: Request, pending: Awaitable[AnyResponse]
    ) -> AnyResponse:
        try:
            response = await pending
        except Problem as problem:
            response = build_problem_response(problem)
        return self._count(request, response)

    def _count(self, request: Request, response: AnyResponse) -> AnyResponse:
        self._metrics.count("http_requests", path=request.template, status=str(response.status))
        return response

    def _handle_change(self) -> None:
        self._on_change()
        self._status.record_change()
        self._changes.notify(STATUS)


def _build_misdirected(host: str) -> Problem:
    return Problem(
        421,
        "Misdirected request",
        f"this server is for this machine only, and {host[:100]!r} is a name of the public DNS; "
        "use localhost, or start it with --token-file or --insecure",
    )


def _is_plain_read_of_routes(request: Request) -> bool:
    return (
        request.target == b"/v1/routes"
        and request.method in {"GET", "HEAD"}
        and (b"accept" not in request.headers or b"event" not in request.headers[b"accept"])
    )
