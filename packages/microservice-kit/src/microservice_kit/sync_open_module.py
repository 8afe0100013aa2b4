"""An open module for code without an event loop: Flask, Django, threads, scripts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Generic, cast

from pydantic import BaseModel
from typing_extensions import TypeVar

from microservice_core import LoopThread, ServiceInstance

from .config.service import ConfigService
from .config.versions import ConfigVersion
from .health.checks import CheckResult
from .open_module import OpenModule
from .registration.registrar import Registration

if TYPE_CHECKING:
    from microservice_client import ServiceClient

    from .container import MicroserviceContainer

__all__ = ("SyncOpenModule",)

ModelT_co = TypeVar("ModelT_co", bound=BaseModel, covariant=True, default=BaseModel)


class SyncOpenModule(Generic[ModelT_co]):
    """The parts of an `OpenModule`, for callers on other threads than the module's own loop.

    Reading `config` is safe from every thread; a method that changes something runs on the module's
    loop and returns when it is done.
    """

    def __init__(self, module: OpenModule[ModelT_co], loop: LoopThread) -> None:
        self._module = module
        self._loop = loop
        self._client: ServiceClient | None = None

    @property
    def config(self) -> ConfigService[ModelT_co]:
        """The configuration, for reading; `module.config.current` is the validated model."""
        return self._module.config

    @property
    def service_client(self) -> ServiceClient:
        """Calls services by name, and blocks until the response is there.

        An override in the `container` is returned as it is, unless it is an `AsyncServiceClient`.
        """
        from microservice_client import AsyncServiceClient, ServiceClient

        override = self._module.parts.container.find_override("service_client")
        if isinstance(override, AsyncServiceClient):
            return ServiceClient.from_async(override, self._loop)
        if override is not None:
            return cast("ServiceClient", override)
        if self._client is None:
            self._client = ServiceClient.from_async(self._module.service_client, self._loop)
        return self._client

    @property
    def instance(self) -> ServiceInstance | None:
        """The instance that was registered under the module's own name, or None."""
        return self._module.instance

    @property
    def container(self) -> MicroserviceContainer:
        """The dependency-injector container of the module's parts, to extend or override."""
        return self._module.container

    def register(self, instance: ServiceInstance) -> Registration:
        """Register a further instance of this process; see `OpenModule.register`."""
        return self._loop.run(self._module.register(instance))

    def instances(self, service_name: str) -> tuple[ServiceInstance, ...]:
        """Return every instance of a service that the registry lists."""
        return self._loop.run(self._module.service_client.instances(service_name))

    def ready(self) -> bool:
        """Whether traffic may come; see `Health.ready`."""
        return self._loop.run(self._module.health.ready())

    def health(self) -> Mapping[str, CheckResult]:
        """Return the result of every check, by name."""
        return self._loop.run(self._module.health.check())

    def rollback(self, version: int) -> ConfigVersion[ModelT_co]:
        """Go back to an earlier version of the configuration; see `ConfigService.rollback`."""
        return self._loop.run(self._roll_back(version))

    def leave(self) -> None:
        """Take the process out of service; see `OpenModule.leave`."""
        self._loop.run(self._module.leave())

    async def _roll_back(self, version: int) -> ConfigVersion[ModelT_co]:
        return self._module.config.rollback(version)
