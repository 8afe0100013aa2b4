"""An open module for code without an event loop: Flask, Django, threads, scripts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

from pydantic import BaseModel

from microservice_core import LoopThread, ServiceInstance

from .config.service import ConfigService
from .config.versions import ConfigVersion
from .health.checks import CheckResult
from .registration.registrar import Registration
from .services import Services

if TYPE_CHECKING:
    from collections.abc import Mapping

    from microservice_client import ServiceClient

    from .container import MicroserviceContainer

__all__ = ("SyncServices",)

ModelT = TypeVar("ModelT", bound=BaseModel)


class SyncServices(Generic[ModelT]):
    """The same parts as `Services`, for callers on other threads than the module's own loop.

    Reading `config` is safe from every thread; what changes something runs on the module's loop
    and is waited for.
    """

    def __init__(self, services: Services[ModelT], loop: LoopThread) -> None:
        self._services = services
        self._loop = loop
        self._client: ServiceClient | None = None

    @property
    def config(self) -> ConfigService[ModelT]:
        """The configuration, to be read; `services.config.current` is the validated model."""
        return self._services.config

    @property
    def service_client(self) -> ServiceClient:
        """Calls services by name, and waits for the answers."""
        if self._client is None:
            from microservice_client import ServiceClient

            self._client = ServiceClient.from_async(self._services.service_client, self._loop)
        return self._client

    @property
    def instance(self) -> ServiceInstance | None:
        """What was registered under the module's own name, or None."""
        return self._services.instance

    @property
    def container(self) -> MicroserviceContainer:
        """A dependency-injector container of the opened objects, to extend or override."""
        return self._services.container

    def register(self, instance: ServiceInstance) -> Registration:
        """Register a further instance of this process; see `Services.register`."""
        return self._loop.run(self._services.register(instance))

    def instances(self, service_name: str) -> tuple[ServiceInstance, ...]:
        """Everybody known to offer a service."""
        return self._loop.run(self._services.service_client.instances(service_name))

    def ready(self) -> bool:
        """Whether traffic may come; see `Health.ready`."""
        return self._loop.run(self._services.health.ready())

    def health(self) -> Mapping[str, CheckResult]:
        """The result of every check."""
        return self._loop.run(self._services.health.check())

    def rollback(self, version: int) -> ConfigVersion[ModelT]:
        """Go back to an earlier version of the configuration; see `ConfigService.rollback`."""
        return self._loop.run(self._rolled_back(version))

    def leave(self) -> None:
        """Go out of service: not ready, out of the registry, time for callers to learn of it."""
        self._loop.run(self._services.leave())

    async def _rolled_back(self, version: int) -> ConfigVersion[ModelT]:
        return self._services.config.rollback(version)
