"""Microservice: a module for the lifetime of an ASGI application."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable, Iterator, MutableMapping
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Unpack, cast

from pydantic import BaseModel
from typing_extensions import TypeVar

from microservice_core import InvalidValueError, TaskSupervisor
from microservice_kit.asgi_types import App, Message, Receive, Send
from microservice_kit.config.service import ConfigService
from microservice_kit.errors import NotEnabledError
from microservice_kit.graceful_stop import GracefulStop
from microservice_kit.module import AnyConfig, MicroserviceModule
from microservice_kit.open_module import OpenModule
from microservice_kit.options import ModuleOptions
from microservice_kit.telemetry.setup import Telemetry

from .error_responses import ErrorResponses
from .lifespan import InnerLifespan
from .litestar import add_litestar_routes
from .management import ManagementApp
from .request_layer import OperatorApp, RequestLayer, find_router, install_layer
from .server_port import find_server_port, has_known_server, wait_until_listening

if TYPE_CHECKING:
    from microservice_client import AsyncServiceClient

__all__ = ("Microservice",)

logger = logging.getLogger(__name__)

ModelT = TypeVar("ModelT", bound=BaseModel, default=AnyConfig)

_MAX_START_SECONDS = 60.0


class Microservice(MicroserviceModule[ModelT]):
    """A `MicroserviceModule` that lives as long as an ASGI application.

    Two ways, with the arguments of `MicroserviceModule`:

    - `app = FastAPI(lifespan=Microservice(service_name="orders", ...).lifespan)`; the open module
      is `request.state.module` in a handler and `.module` here. The same for Starlette, and
      `Litestar(lifespan=[micro.lifespan])`.
    - `app = Microservice(app=app, service_name="orders", ...)` around any ASGI application.

    Under uvicorn, hypercorn or gunicorn the service is registered once the server listens, on the
    port of the server that runs it unless `port` is given; anywhere else at start-up. On SIGTERM it
    goes out of service first: not ready, deregistered, `leave_seconds` for callers to notice; then
    the server stops accepting, finishes the requests it has, and everything is closed in reverse
    order.

    Args:
        app: the application to wrap.
        management: serve `/health/live`, `/health/ready` and `/health`.
        telemetry: serve `/metrics` with what was set up with `prometheus=True`.
        error_responses: respond to the toolkit's errors that a handler lets out, such as
            `NoInstanceCallError`, with 429, 502, 503 or 504 and a problem document (RFC 9457).
        config: the model of the application's configuration.
        options: as for `MicroserviceModule`; `status_page=True` serves `/microservice`, to requests
            that carry the `management_token`.

    Raises:
        InvalidValueError: a setting breaks a rule; nothing was opened.
    """

    def __init__(
        self,
        *,
        app: App | None = None,
        management: bool = True,
        telemetry: Telemetry | None = None,
        error_responses: bool = True,
        config: type[ModelT] | None = None,
        **options: Unpack[ModuleOptions],
    ) -> None:
        super().__init__(config=config, **options)
        if self.settings.status_page and not self.settings.management_token.get_secret_value():
            raise InvalidValueError(
                "management_token", "", "a secret while status_page is on: it opens the page"
            )
        self._app = app
        self._served_app: object = self
        self._serves_management = management
        self._error_responses = ErrorResponses() if error_responses else None
        self._metrics = telemetry.prometheus_text if telemetry and telemetry.registry else None
        self._module: OpenModule[ModelT] | None = None
        self._layer: App | None = None

    @asynccontextmanager
    async def lifespan(self, app: object) -> AsyncIterator[dict[str, object]]:
        """Open the module around the application's life; pass it to Starlette or FastAPI.

        Where several applications run in one process each request has the module of its own. The
        lifespan of a mounted application does not run by itself: enter it inside that of the outer
        one, `async with outer.lifespan(app), inner.lifespan(mounted_app): yield`.
        """
        async with self._run(app) as module:
            with self._serve_requests_of(app, module):
                yield {"module": module}

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve the wrapped application."""
        if self._app is None:
            raise NotEnabledError("an application to wrap", "say Microservice(app=...)")
        if scope["type"] == "lifespan":
            await self._serve_lifespan(self._app, scope, receive, send)
        else:
            await (self._layer or self._app)(scope, receive, send)

    @property
    def is_open(self) -> bool:
        """Whether the application runs."""
        return self._module is not None

    @property
    def module(self) -> OpenModule[ModelT]:
        """The open module.

        Raises:
            NotEnabledError: the application is not running.
        """
        if self._module is None:
            raise NotEnabledError(
                "this microservice",
                "use it while the application runs, which has to open it: "
                "FastAPI(lifespan=micro.lifespan) or Microservice(app=app, ...). The lifespan of a "
                "mounted application does not run by itself: enter it in that of the outer one",
            )
        return self._module

    @property
    def config(self) -> ConfigService[ModelT]:
        """The configuration; `.config.current` is the validated model."""
        return self.module.config

    @property
    def client(self) -> AsyncServiceClient:
        """Calls services by name."""
        return self.module.service_client

    @asynccontextmanager
    async def _run(self, served_app: object) -> AsyncIterator[OpenModule[ModelT]]:
        self._served_app = served_app
        async with self as module:
            self._module = module
            stop = GracefulStop(module.leave).install()
            try:
                yield module
            finally:
                stop.uninstall()
                self._module = None

    def _create_operator_apps(self, module: OpenModule[BaseModel]) -> tuple[OperatorApp, ...]:
        apps: list[OperatorApp] = []
        token = self.settings.management_token.get_secret_value()
        if self._serves_management:
            apps.append(ManagementApp(module.health, token=token, metrics=self._metrics))
        if self.settings.status_page:
            from .status_page.page import StatusPage

            apps.append(StatusPage(module, token=token, name=self.settings.service_name))
        return tuple(apps)

    @contextmanager
    def _serve_requests_of(self, app: object, module: OpenModule[BaseModel]) -> Iterator[None]:
        """Let the requests of an application, or of the wrapped one, pass our layer."""
        operator_apps = self._create_operator_apps(module)
        if self._app is not None:
            app, self._layer = self._app, self._create_layer(module, operator_apps, self._app)
            # Starlette turns every error into a 500 itself: those of ours are caught inside of that.
            operator_apps = ()
        router = find_router(app)
        if router is None and not add_litestar_routes(app, operator_apps) and operator_apps:
            logger.warning(
                "no routes can be added to %s for %s; wrap it: Microservice(app=...)",
                type(app).__name__,
                ", ".join(path for operator_app in operator_apps for path in operator_app.paths),
            )
        try:
            with install_layer(router, partial(self._create_layer, module, operator_apps)):
                yield
        finally:
            self._layer = None

    def _create_layer(
        self,
        module: OpenModule[BaseModel],
        operator_apps: Iterable[OperatorApp],
        inner: App,
        taken_paths: Iterable[str] = (),
    ) -> App:
        return RequestLayer(
            inner,
            module,
            operator_apps,
            error_responses=self._error_responses,
            taken_paths=taken_paths,
        )

    async def _serve_lifespan(self, app: App, scope: Message, receive: Receive, send: Send) -> None:
        """Serve the lifespan protocol, with the module open around the application's own."""
        await receive()
        phase = "startup"
        try:
            async with self._run(self) as module:
                state = cast("MutableMapping[str, object]", scope.setdefault("state", {}))
                state["module"] = module
                with self._serve_requests_of(app, module):
                    async with InnerLifespan(app, scope):
                        await send({"type": "lifespan.startup.complete"})
                        phase = "shutdown"
                        await receive()
                        # The server has stopped accepting before it sends the shutdown event: there
                        # is no caller left to wait for.
                        await module.leave(wait=False)
        except BaseException as error:
            await send({"type": f"lifespan.{phase}.failed", "message": str(error)})
            raise
        await send({"type": "lifespan.shutdown.complete"})

    async def _start_registration(self, module: OpenModule[ModelT], tasks: TaskSupervisor) -> None:
        registrar = module.parts.registrar
        if registrar is None or not has_known_server():
            await super()._start_registration(module, tasks)
            return
        # The server binds its port only after this start-up has ended. The registry is reached
        # now all the same, so that one that is down ends the start.
        if self._register and self.settings.service_name:
            await registrar.check_reachable(self.settings.service_name)
        tasks.start("registration", lambda: self._register_when_listening(module))

    async def _register_when_listening(self, module: OpenModule[ModelT]) -> None:
        try:
            async with asyncio.timeout(_MAX_START_SECONDS):
                port = self.settings.port or await find_server_port(self._served_app)
                await wait_until_listening(port)
            await self._register_services(module, port, patient=True)
        except TimeoutError:
            logger.error(  # noqa: TRY400 - the reason is in the message
                "not registered: the server did not listen within %g s; set `port` if it serves "
                "on one that cannot be found out",
                _MAX_START_SECONDS,
            )
        except Exception:
            # Not left to the supervisor, which would register a second time what succeeded.
            logger.exception("not registered")
