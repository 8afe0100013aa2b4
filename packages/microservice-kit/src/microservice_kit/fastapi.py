"""The parts of a module as FastAPI dependencies: `Annotated[Services, Depends(services)]`.

Plain functions: FastAPI itself is not imported.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel

from .current import current_services

if TYPE_CHECKING:
    from microservice_client import AsyncServiceClient
    from microservice_core import ServiceInstance

    from .services import AnyServices

__all__ = ("api_client", "config_part", "config_value", "instance_of", "service_client", "services")

PartT = TypeVar("PartT", bound=BaseModel)
ValueT = TypeVar("ValueT")
ApiT = TypeVar("ApiT")


async def services() -> AnyServices:
    """The open services: `Annotated[Services, Depends(services)]`."""
    return current_services()


async def service_client() -> AsyncServiceClient:
    """Calls services by name: `Annotated[AsyncServiceClient, Depends(service_client)]`."""
    return current_services().service_client


def api_client(api: Callable[[AsyncServiceClient], ApiT]) -> Callable[[], ApiT]:
    """A declarative client: `Annotated[OrdersApi, Depends(api_client(OrdersApi))]`."""

    def depend() -> ApiT:
        return api(current_services().service_client)

    return depend


def config_part(model: type[PartT], prefix: str = "") -> Callable[[], PartT]:
    """A part of the configuration: `Annotated[Db, Depends(config_part(Db))]`."""

    def depend() -> PartT:
        return current_services().config.properties(model, prefix)

    return depend


def config_value(key: str, default: ValueT) -> Callable[[], ValueT]:
    """One value of the configuration: `Annotated[int, Depends(config_value("db.pool", 5))]`."""

    def depend() -> ValueT:
        return current_services().config.get(key, default)

    return depend


def instance_of(
    service_name: str, *, balancer: str = "round_robin"
) -> Callable[[], Awaitable[ServiceInstance]]:
    """An instance of a service: `Annotated[ServiceInstance, Depends(instance_of("orders"))]`."""
    from .calls.service_discovery import ServiceDiscovery

    discovery = ServiceDiscovery(service_name, balancer=balancer)

    async def depend() -> ServiceInstance:
        return await discovery.choose()

    return depend
