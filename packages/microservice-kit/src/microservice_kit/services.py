"""What an open module offers, by attribute."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from pydantic import BaseModel

from microservice_core import ConfigCenter, ServiceInstance, ServiceRegistry

from .config_service import ConfigService
from .errors import NotEnabledError

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
        instance: what was registered, or None.
    """

    opened_config: ConfigService[ModelT]
    opened_config_center: ConfigCenter | None = None
    opened_service_registry: ServiceRegistry | None = None
    opened_service_client: AsyncServiceClient | None = None
    instance: ServiceInstance | None = None

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
        """Calls services by name."""
        return _enabled("service_client", self.opened_service_client, "service_registry")

    @property
    def container(self) -> MicroserviceContainer:
        """A dependency-injector container of the same objects, to extend or override."""
        from .container import container_of

        return container_of(
            config_center=self.opened_config_center,
            service_registry=self.opened_service_registry,
            service_client=self.opened_service_client,
            config=self.opened_config,
        )


def _enabled(name: str, opened: ValueT | None, needs: str = "") -> ValueT:
    if opened is None:
        raise NotEnabledError(name, f'open the module with {needs or name}="nacos" (or another)')
    return opened


AnyServices = Services[BaseModel]
