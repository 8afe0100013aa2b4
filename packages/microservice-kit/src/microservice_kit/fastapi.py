"""The parts of a module as FastAPI dependencies: `Annotated[OpenModule, Depends(open_module)]`.

Plain functions: FastAPI itself is not imported, but by `redis_limit`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from inspect import Parameter, Signature
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel

from microservice_core import MissingDependencyError

from .context.current import current_module
from .open_module import OpenModule

if TYPE_CHECKING:
    from fastapi import Request, Response

    from microservice_client import AsyncServiceClient
    from microservice_core import ServiceInstance
    from microservice_governance import Decision, LimitConfig

__all__ = (
    "api_client",
    "config_part",
    "config_value",
    "instance_of",
    "open_module",
    "redis_limit",
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


def redis_limit(
    name: str, limit: LimitConfig, *, key: Callable[[Request], str] | None = None
) -> Callable[..., Awaitable[Decision]]:
    """Depend on a limit that all processes share: `Depends(redis_limit("search", limit))`.

    Needs `redis_url` and the extra `redis`. The response has the fields `RateLimit-*`; a refused
    request is a 429 with `Retry-After`.

    Args:
        name: the same in every process that shares the limit.
        key: returns what is limited from the request, such as a user's id; by default the
            client's address.

    Raises:
        MissingDependencyError: FastAPI is not installed.
    """
    from microservice_governance import rate_limit_headers

    from .context.shared_limits import SharedRateLimit

    try:
        from fastapi import Request, Response
    except ImportError as error:
        raise MissingDependencyError("redis_limit", "microservice-kit[fastapi]") from error
    shared_limit = SharedRateLimit(name, limit)

    async def depend(request: Request, response: Response) -> Decision:
        decision = await shared_limit.take(_client_host(request) if key is None else key(request))
        response.headers.update(rate_limit_headers(decision, limit))
        return decision

    # FastAPI reads the types of the arguments; as text it would look for them in this module.
    depend.__signature__ = Signature(  # type: ignore[attr-defined]
        [
            Parameter("request", Parameter.POSITIONAL_OR_KEYWORD, annotation=Request),
            Parameter("response", Parameter.POSITIONAL_OR_KEYWORD, annotation=Response),
        ]
    )
    return depend


def _client_host(request: Request) -> str:
    return request.client.host if request.client is not None else "unknown"
