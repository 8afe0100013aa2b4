"""Microservice: a module for the lifetime of an ASGI application."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Generic, TypeVar, overload

from pydantic import BaseModel

from microservice_core import ConfigCenter, ServiceRegistry

from .config_service import ConfigService
from .errors import NotEnabledError
from .module import AnyConfig, LaneMode, MicroserviceModule
from .services import Services
from .settings import MicroserviceSettings

if TYPE_CHECKING:
    from microservice_client import AsyncServiceClient, ServicePolicy

__all__ = ("Microservice",)

ModelT = TypeVar("ModelT", bound=BaseModel)


class Microservice(Generic[ModelT]):
    """Gives a Starlette or FastAPI application a lifespan that opens a `MicroserviceModule`.

    `app = FastAPI(lifespan=Microservice(service_name="orders", port=8000, ...).lifespan)`: the
    service is registered before the first request and deregistered before the last one ends. The
    opened services are `request.state.services` in a handler and `.services` here.

    Takes the arguments of `MicroserviceModule`.
    """

    @overload
    def __init__(
        self: Microservice[AnyConfig],
        *,
        config_center: str | ConfigCenter | None = None,
        service_registry: str | ServiceRegistry | None = None,
        config: None = None,
        lanes: LaneMode | None = None,
        policies: Mapping[str, ServicePolicy] | None = None,
        register: bool = True,
        **settings: object,
    ) -> None: ...

    @overload
    def __init__(
        self,
        *,
        config_center: str | ConfigCenter | None = None,
        service_registry: str | ServiceRegistry | None = None,
        config: type[ModelT],
        lanes: LaneMode | None = None,
        policies: Mapping[str, ServicePolicy] | None = None,
        register: bool = True,
        **settings: object,
    ) -> None: ...

    def __init__(self, *, config: type[ModelT] | None = None, **arguments: object) -> None:
        self._module: MicroserviceModule[ModelT] = MicroserviceModule(config=config, **arguments)  # type: ignore[call-overload]
        self._services: Services[ModelT] | None = None

    @asynccontextmanager
    async def lifespan(self, app: object) -> AsyncIterator[dict[str, object]]:
        """Open the module around the application's life; hand it to Starlette or FastAPI."""
        async with self._module as services:
            self._services = services
            try:
                yield {"services": services}
            finally:
                self._services = None

    @property
    def settings(self) -> MicroserviceSettings:
        """What it was told, the environment included; there before the application runs."""
        return self._module.settings

    @property
    def services(self) -> Services[ModelT]:
        """What is open.

        Raises:
            NotEnabledError: the application is not running.
        """
        if self._services is None:
            raise NotEnabledError("this microservice", "use it while the application runs")
        return self._services

    @property
    def config(self) -> ConfigService[ModelT]:
        """The configuration; `.config.current` is the validated model."""
        return self.services.config

    @property
    def client(self) -> AsyncServiceClient:
        """Calls services by name."""
        return self.services.service_client
