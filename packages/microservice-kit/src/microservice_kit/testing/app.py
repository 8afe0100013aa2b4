"""Opens an application with a mesh, an in-memory registry and an in-memory configuration center."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast

import httpx
from pydantic import BaseModel

from microservice_client.testing import FakeMesh
from microservice_core import InMemoryConfigCenter, InMemoryServiceRegistry, InvalidValueError
from microservice_core.testing import settle
from microservice_kit.asgi_types import App, Message, Receive, Send
from microservice_kit.open_module import OpenModule
from microservice_kit.web.asgi import Microservice
from microservice_kit.web.lifespan import InnerLifespan

__all__ = ("OpenedApp", "open_app")

State = dict[str, object]


@dataclass(frozen=True, slots=True)
class OpenedApp:
    """An open application, and what surrounds it in a test.

    Attributes:
        http: sends requests to the application; an error that it does not handle comes out.
        mesh: the services that the application calls; start their instances here.
        config_center: the documents that the application reads.
        module: the application's open module.
    """

    http: httpx.AsyncClient
    mesh: FakeMesh
    config_center: InMemoryConfigCenter
    module: OpenModule[BaseModel]

    @property
    def registry(self) -> InMemoryServiceRegistry:
        """Where the instances of the mesh are, and what the application registers."""
        return self.mesh.registry

    async def publish(self, data_id: str, content: str) -> None:
        """Publish a document, and return when the application has taken note of it."""
        await self.config_center.publish_config(data_id, content)
        await settle()


@asynccontextmanager
async def open_app(
    micro: Microservice[Any],
    app: App | None = None,
    *,
    documents: Mapping[str, str] | None = None,
    mesh: FakeMesh | None = None,
) -> AsyncIterator[OpenedApp]:
    """Open an application as a server does, with its surroundings in memory; close it afterwards.

    Whatever its settings say, it reads its configuration from `documents`, finds services in the
    mesh, and calls them without a socket.

    Args:
        micro: the application's microservice, not open yet.
        app: the application; without one `micro` wraps it.
        documents: the content of each document by its data id.
        mesh: the services, if they are shared with another application of the test.

    Raises:
        NotEnabledError: the application does not open `micro` in its lifespan.
        InvalidValueError: `micro` is open already.
    """
    _require_closed(micro)
    mesh, center = mesh or FakeMesh(), InMemoryConfigCenter(dict(documents or {}))
    served = app if app is not None else cast("App", micro)
    with ExitStack() as overrides:
        parts = {"config_center": center, "service_registry": mesh.registry, "transport": mesh}
        for name, part in parts.items():
            overrides.enter_context(micro.container.providers[name].override(part))
        async with _run_lifespan(served) as state, _create_http(served, state) as http:
            yield OpenedApp(http, mesh, center, micro.module)


def _require_closed(micro: Microservice[Any]) -> None:
    if micro.is_open:
        raise InvalidValueError("micro", "open", "a microservice that is not open yet")


def _create_http(app: App, state: State) -> httpx.AsyncClient:
    async def serve(scope: Message, receive: Receive, send: Send) -> None:
        scope["state"] = dict(state)  # as a server does with what the lifespan yielded
        await app(scope, receive, send)

    transport = httpx.ASGITransport(cast("Any", serve))  # its types are narrower than ASGI's
    return httpx.AsyncClient(transport=transport, base_url="http://app")


@asynccontextmanager
async def _run_lifespan(app: App) -> AsyncIterator[State]:
    lifespan = getattr(getattr(app, "router", None), "lifespan_context", None)
    if lifespan is not None:
        # Not by events: those of Starlette turn an error of the start into text.
        async with lifespan(app) as state:
            yield dict(state or {})
        return
    scope: Message = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
    async with InnerLifespan(app, scope):
        yield cast("State", scope["state"])
