"""Microservice: a module for the lifetime of an ASGI application."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from pydantic import BaseModel
from typing_extensions import TypeVar

from .config_service import ConfigService
from .errors import NotEnabledError
from .module import AnyConfig, MicroserviceModule
from .services import Services

if TYPE_CHECKING:
    from microservice_client import AsyncServiceClient

__all__ = ("Microservice",)

ModelT = TypeVar("ModelT", bound=BaseModel, default=AnyConfig)


class Microservice(MicroserviceModule[ModelT]):
    """A `MicroserviceModule` that lives as long as a Starlette or FastAPI application.

    `app = FastAPI(lifespan=Microservice(service_name="orders", port=8000, ...).lifespan)`: the
    service is registered before the first request and deregistered before anything is closed. The
    opened services are `request.state.services` in a handler and `.services` here.

    Takes the arguments of `MicroserviceModule`.
    """

    _open: Services[ModelT] | None = None

    @asynccontextmanager
    async def lifespan(self, app: object) -> AsyncIterator[dict[str, object]]:
        """Open the module around the application's life; hand it to Starlette or FastAPI."""
        async with self as services:
            self._open = services
            try:
                yield {"services": services}
            finally:
                self._open = None

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
