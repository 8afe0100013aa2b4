"""What an open module offers, by attribute."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

from pydantic import BaseModel

from microservice_core import ConfigCenter, ServiceInstance, ServiceRegistry

from .calls.lazy_client import LazyServiceClient
from .config.service import ConfigService
from .errors import NotEnabledError
from .health.checks import Health
from .registration.registrar import Registrar, Registration

if TYPE_CHECKING:
    from microservice_client import AsyncServiceClient

    from .container import MicroserviceContainer

__all__ = ("AnyServices", "Services")

ModelT = TypeVar("ModelT", bound=BaseModel)
ValueT = TypeVar("ValueT")


@dataclass(slots=True, kw_only=True)
class Services(Generic[ModelT]):
    """The opened parts of a module; one that was not enabled raises `NotEnabledError`.

    Attributes:
        instance: what was registered under the module's own name, or None.
        health: the checks of this process; add your own.
    """

    opened_config: ConfigService[ModelT]
    opened_config_center: ConfigCenter | None = None
    opened_service_registry: ServiceRegistry | None = None
    lazy_service_client: LazyServiceClient | None = None
    opened_registrar: Registrar | None = None
    instance: ServiceInstance | None = None
    health: Health = field(default_factory=Health)
    leave_seconds: float = 0.0

    @property
    def config(self) -> ConfigService[ModelT]:
        """The configuration; `services.config.current` is the validated model."""
        return self.opened_config

    @property
    def config_center(self) -> ConfigCenter:
        """The configuration center."""
        return _enabled("config_center", self.opened_config_center)

    @property
    def service_registry(self) -> ServiceRegistry:
        """The service registry."""
        return _enabled("service_registry", self.opened_service_registry)

    @property
    def service_client(self) -> AsyncServiceClient:
        """Calls services by name; opened soon after the start, or when it is first asked for."""
        return _enabled("service_client", self.lazy_service_client, "service_registry").client()

    async def register(self, instance: ServiceInstance, *, patient: bool = False) -> Registration:
        """Register a further instance of this process; it leaves with the others.

        Args:
            patient: go on trying in the background whatever the module's policy says.

        Raises:
            NotEnabledError: the module has no registry.
            ServiceRegistryError: see `on_registry_unavailable`.
        """
        registrar = _enabled("registration", self.opened_registrar, "service_registry")
        return await registrar.add(instance, patient=patient)

    @property
    def registrations(self) -> tuple[Registration, ...]:
        """What is registered, or being registered, now."""
        return tuple(self.opened_registrar.registrations) if self.opened_registrar else ()

    async def leave(self, *, wait: bool = True) -> None:
        """Go out of service: not ready, out of the registry, and time for callers to learn of it.

        Nothing is closed; the process goes on answering.

        Args:
            wait: False does not wait for the callers.
        """
        self.health.draining = True
        registrar = self.opened_registrar
        if registrar is not None and registrar.registrations:
            await registrar.aclose()
            await asyncio.sleep(self.leave_seconds if wait else 0.0)

    @property
    def container(self) -> MicroserviceContainer:
        """A dependency-injector container of the same objects, to extend or override."""
        from .container import container_of

        lazy = self.lazy_service_client
        return container_of(
            config_center=self.opened_config_center,
            service_registry=self.opened_service_registry,
            service_client=lazy.client() if lazy is not None else None,
            config=self.opened_config,
        )


def _enabled(name: str, opened: ValueT | None, needs: str = "") -> ValueT:
    if opened is None:
        raise NotEnabledError(name, f'open the module with {needs or name}="nacos" (or another)')
    return opened


AnyServices = Services[BaseModel]
