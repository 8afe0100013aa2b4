"""The parts of a module as FastAPI dependencies: `Annotated[OpenModule, Depends(open_module)]`.

Plain functions: FastAPI itself is not imported.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel

from .context.current import current_module
from .open_module import OpenModule

if TYPE_CHECKING:
    from microservice_client import AsyncServiceClient
    from microservice_core import ServiceInstance

__all__ = (
    "api_client",
    "config_part",
    "config_value",
    "instance_of",
    "open_module",
    "service_client",
)

PartT = TypeVar("PartT", bound=BaseModel)
ValueT = TypeVar("ValueT")
ApiT = TypeVar("ApiT")


async def open_module() -> OpenModule:
    """Return the open module: `Annotated[OpenModule, Depends(open_module)]`."""
    return current_module()


async def service_client() -> AsyncServiceClient:
    """Return the service client: `Annotated[AsyncServiceClient, Depends(service_client)]`."""
    return current_module().service_client


def api_client(api: Callable[[AsyncServiceClient], ApiT]) -> Callable[[], ApiT]:
    """Depend on a declarative client: `Annotated[OrdersApi, Depends(api_client(OrdersApi))]`."""

    def depend() -> ApiT:
        return api(current_module().service_client)

    return depend


def config_part(model: type[PartT], prefix: str = "") -> Callable[[], PartT]:
    """Depend on a part of the configuration: `Annotated[Db, Depends(config_part(Db))]`."""

    def depend() -> PartT:
        return current_module().config.properties(model, prefix)

    return depend


def config_value(key: str, default: ValueT) -> Callable[[], ValueT]:
    """Depend on one value: `Annotated[int, Depends(config_value("db.pool", 5))]`."""

    def depend() -> ValueT:
        return current_module().config.get(key, default)

    return depend


def instance_of(
    service_name: str, *, balancer: str = "round_robin"
) -> Callable[[], Awaitable[ServiceInstance]]:
    """Depend on an instance: `Annotated[ServiceInstance, Depends(instance_of("orders"))]`."""
    from .context.service_discovery import ServiceDiscovery

    discovery = ServiceDiscovery(service_name, balancer=balancer)

    async def depend() -> ServiceInstance:
        return await discovery.choose()

    return depend
