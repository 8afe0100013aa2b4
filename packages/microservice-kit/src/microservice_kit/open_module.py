"""The open parts of a module, by attribute."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, cast

from pydantic import BaseModel
from typing_extensions import TypeVar

from microservice_core import ConfigCenter, ServiceInstance, ServiceRegistry

from .calls.lazy_client import LazyServiceClient
from .config.service import ConfigService
from .errors import NotEnabledError
from .health.checks import Health
from .lazy_container import LazyContainer, PartName
from .registration.registrar import Registrar, Registration
from .stop_order import leave_registry

if TYPE_CHECKING:
    from microservice_client import AsyncServiceClient

    from .container import MicroserviceContainer

__all__ = ("ModuleParts", "OpenModule")

ModelT_co = TypeVar("ModelT_co", bound=BaseModel, covariant=True, default=BaseModel)
PartT = TypeVar("PartT")


@dataclass(slots=True, kw_only=True)
class ModuleParts:
    """The parts of a module that may be absent; None = not enabled, or not open yet."""

    config_center: ConfigCenter | None = None
    service_registry: ServiceRegistry | None = None
    service_client: LazyServiceClient | None = None
    registrar: Registrar | None = None
    redis: object = None
    limiters: dict[str, object] = field(default_factory=dict)
    container: LazyContainer = field(default_factory=LazyContainer)


@dataclass(slots=True, kw_only=True)
class OpenModule(Generic[ModelT_co]):
    """The open parts of a module; a part that is not enabled raises `NotEnabledError`.

    A part that is overridden in the `container` is the override.

    Attributes:
        own_config: the configuration that the module opened.
        health: the health checks of this process; add your own.
        instance: the instance that was registered under the module's own name, or None.
        parts: the same parts, None where not enabled.
        leave_seconds: how long `leave` gives callers to notice.
    """

    own_config: ConfigService[ModelT_co]
    health: Health = field(default_factory=Health)
    instance: ServiceInstance | None = None
    parts: ModuleParts = field(default_factory=ModuleParts)
    leave_seconds: float = 0.0

    @property
    def config(self) -> ConfigService[ModelT_co]:
        """The configuration; `module.config.current` is the validated model."""
        return self._find("config", self.own_config)

    @property
    def config_center(self) -> ConfigCenter:
        """The configuration center."""
        return self._find("config_center", self.parts.config_center)

    @property
    def service_registry(self) -> ServiceRegistry:
        """The service registry."""
        return self._find("service_registry", self.parts.service_registry)

    @property
    def service_client(self) -> AsyncServiceClient:
        """Calls services by name; opened soon after the start, or when first used."""
        override = self.parts.container.find_override("service_client")
        if override is not None:
            return cast("AsyncServiceClient", override)
        return _require("service_client", self.parts.service_client, "service_registry").get()

    @property
    def redis(self) -> object:
        """The `redis.asyncio.Redis` of `redis_url`, for the application's own use."""
        if self.parts.redis is None:
            raise NotEnabledError("redis", 'open the module with redis_url="redis://..."')
        return self.parts.redis

    async def register(self, instance: ServiceInstance, *, patient: bool = False) -> Registration:
        """Register a further instance of this process; it is deregistered with the others.

        Args:
            patient: keep trying in the background whatever the module's policy says.

        Raises:
            NotEnabledError: the module has no registry.
            ServiceRegistryError: see `on_registry_unavailable`.
        """
        registrar = _require("registration", self.parts.registrar, "service_registry")
        return await registrar.add(instance, patient=patient)

    @property
    def registrations(self) -> tuple[Registration, ...]:
        """What is registered, or being registered, now."""
        registrar = self.parts.registrar
        return tuple(registrar.registrations) if registrar is not None else ()

    async def leave(self, *, wait: bool = True) -> None:
        """Take the process out of service: not ready, deregistered, with time to notice for callers.

        Nothing is closed; requests are still served. `stop_order` has the whole order.

        Args:
            wait: False does not wait for the callers.
        """
        await leave_registry(
            self.health, self.parts.registrar, leave_seconds=self.leave_seconds if wait else 0.0
        )

    @property
    def container(self) -> MicroserviceContainer:
        """The module's dependency-injector container of the same parts, to extend or override."""
        return self.parts.container.get()

    def _find(self, name: PartName, part: PartT | None) -> PartT:
        override = self.parts.container.find_override(name)
        return _require(name, part if override is None else cast("PartT", override))


def _require(name: str, part: PartT | None, option: str = "") -> PartT:
    if part is None:
        raise NotEnabledError(name, f'open the module with {option or name}="nacos" (or another)')
    return part
