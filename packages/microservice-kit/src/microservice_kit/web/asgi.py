"""Microservice: a module for the lifetime of an ASGI application."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, cast

from pydantic import BaseModel
from typing_extensions import TypeVar

from microservice_core import ConfigCenter, InvalidValueError, ServiceRegistry
from microservice_kit.config.encryption import KeyProvider
from microservice_kit.config.service import ConfigService
from microservice_kit.errors import NotEnabledError
from microservice_kit.module import AnyConfig, LaneMode, MicroserviceModule
from microservice_kit.services import Services

from .graceful_stop import GracefulStop
from .lifespan import InnerLifespan
from .management import ManagementApp
from .responses import Message, Receive, Send, path_within
from .routes import add_routes
from .server_port import listening, only_server_port, server_is_known

if TYPE_CHECKING:
    from microservice_client import AsyncServiceClient, ServicePolicy
    from microservice_kit.services import AnyServices
    from microservice_kit.telemetry.setup import Telemetry

    from .status_page.page import StatusPage

__all__ = ("Microservice",)

logger = logging.getLogger(__name__)

ModelT = TypeVar("ModelT", bound=BaseModel, default=AnyConfig)
App = Callable[[Message, Receive, Send], Awaitable[None]]

LONGEST_START_SECONDS = 60.0


class Microservice(MicroserviceModule[ModelT]):
    """A `MicroserviceModule` that lives as long as an ASGI application.

    Two ways, with the arguments of `MicroserviceModule`:

    - `app = FastAPI(lifespan=Microservice(service_name="orders", ...).lifespan)`; the opened
      services are `request.state.services` in a handler and `.services` here. The same for
      Starlette, and `Litestar(lifespan=[micro.lifespan])`.
    - `app = Microservice(app=app, service_name="orders", ...)` around any ASGI application.

    Under uvicorn, hypercorn or gunicorn the service is registered once the server listens, on the
    port of the server that runs it unless `port` is given; anywhere else at start-up. On SIGTERM it
    goes out of service first: not ready, deregistered, `leave_seconds` for callers to learn of it;
    then the server stops accepting, finishes what it has, and everything is closed in reverse
    order.

    Args:
        app: the application to wrap.
        management: answer `/health/live`, `/health/ready` and `/health`.
        telemetry: answer `/metrics` with what was set up with `prometheus=True`.
        settings: every field of `MicroserviceSettings`; `status_page=True` serves `/microservice`,
            to who has the `management_token`.

    Raises:
        InvalidValueError: a setting breaks a rule; nothing was opened.
    """

    def __init__(
        self,
        *,
        app: App | None = None,
        management: bool = True,
        telemetry: Telemetry | None = None,
        config_center: str | ConfigCenter | None = None,
        service_registry: str | ServiceRegistry | None = None,
        config: type[ModelT] | None = None,
        lanes: LaneMode | None = None,
        policies: Mapping[str, ServicePolicy] | None = None,
        register: bool = True,
        config_keys: KeyProvider | None = None,
        **settings: object,
    ) -> None:
        super().__init__(
            config_center=config_center,
            service_registry=service_registry,
            config=config,
            lanes=lanes,
            policies=policies,
            register=register,
            config_keys=config_keys,
            **settings,
        )
        if self.settings.status_page and not self.settings.management_token.get_secret_value():
            raise InvalidValueError(
                "management_token", "", "a secret while status_page is on: it opens the page"
            )
        self._app = app
        self._served: object = self
        self._wants_management = management
        self._metrics = telemetry.prometheus_text if telemetry and telemetry.registry else None
        self._open: Services[ModelT] | None = None
        self._management: ManagementApp | None = None
        self._status_page: StatusPage | None = None

    @asynccontextmanager
    async def lifespan(self, app: object) -> AsyncIterator[dict[str, object]]:
        """Open the module around the application's life; hand it to Starlette or FastAPI."""
        async with self._opened(app) as services:
            self._add_own_apps_to(app)
            yield {"services": services}

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve the wrapped application."""
        if self._app is None:
            raise NotEnabledError("an application to wrap", "say Microservice(app=...)")
        if scope["type"] == "lifespan":
            await self._live(self._app, scope, receive, send)
        else:
            await (self._own_app(scope) or self._app)(scope, receive, send)

    @property
    def services(self) -> Services[ModelT]:
        """What is open.

        Raises:
            NotEnabledError: the application is not running.
        """
        if self._open is None:
            raise NotEnabledError("this microservice", "use it while the application runs")
        return self._open

    @property
    def config(self) -> ConfigService[ModelT]:
        """The configuration; `.config.current` is the validated model."""
        return self.services.config

    @property
    def client(self) -> AsyncServiceClient:
        """Calls services by name."""
        return self.services.service_client

    @asynccontextmanager
    async def _opened(self, served: object) -> AsyncIterator[Services[ModelT]]:
        self._served = served
        async with self as services:
            self._open = services
            self._make_own_apps(cast("AnyServices", services))
            stop = GracefulStop(services.leave).install()
            try:
                yield services
            finally:
                stop.uninstall()
                self._open = self._management = self._status_page = None

    def _make_own_apps(self, services: AnyServices) -> None:
        token = self.settings.management_token.get_secret_value()
        if self._wants_management:
            self._management = ManagementApp(services.health, token=token, metrics=self._metrics)
        if self.settings.status_page:
            from .status_page.page import StatusPage

            name = self.settings.service_name
            self._status_page = StatusPage(services, token=token, name=name)

    def _add_own_apps_to(self, app: object) -> None:
        own_apps = [own for own in (self._management, self._status_page) if own is not None]
        if not add_routes(app, own_apps) and own_apps and self._app is None:
            logger.warning(
                "%s cannot take in %s; wrap it: Microservice(app=...)",
                type(app).__name__,
                ", ".join(path for own in own_apps for path in own.paths),
            )

    async def _live(self, app: App, scope: Message, receive: Receive, send: Send) -> None:
        """The lifespan protocol, with the module open around the application's own."""
        await receive()
        phase = "startup"
        try:
            async with self._opened(self) as services:
                state = cast("MutableMapping[str, object]", scope.setdefault("state", {}))
                state["services"] = services
                async with InnerLifespan(app, scope):
                    await send({"type": "lifespan.startup.complete"})
                    phase = "shutdown"
                    await receive()
                    await services.leave(wait=False)
        except BaseException as error:
            await send({"type": f"lifespan.{phase}.failed", "message": str(error)})
            raise
        await send({"type": "lifespan.shutdown.complete"})

    def _own_app(self, scope: Mapping[str, object]) -> App | None:
        if scope["type"] == "http":
            path = path_within(scope)
            for own in (self._management, self._status_page):
                if own is not None and own.answers(path):
                    return own
        return None

    async def _announce(self, stack: AsyncExitStack, services: Services[ModelT]) -> None:
        if not server_is_known():
            await super()._announce(stack, services)
            return
        # The server binds its port only after this start-up has ended; what can be known is asked
        # now, so that a registry that is down ends the start.
        registrar = services.opened_registrar
        if registrar is not None and self._register and self.settings.service_name:
            await registrar.reach(self.settings.service_name)
        task = asyncio.ensure_future(self._announce_when_listening(services))
        stack.callback(task.cancel)

    async def _announce_when_listening(self, services: Services[ModelT]) -> None:
        try:
            async with asyncio.timeout(LONGEST_START_SECONDS):
                port = await self._server_port()
                await listening(port)
            await self._register_all(services, port, patient=True)
        except TimeoutError:
            logger.error(  # noqa: TRY400 - the reason is in the message
                "not registered: the server did not listen within %g s; give `port` if it serves "
                "on one that cannot be found out",
                LONGEST_START_SECONDS,
            )
        except Exception:
            logger.exception("not registered")

    async def _server_port(self) -> int:
        return self.settings.port or await only_server_port(self._served)
